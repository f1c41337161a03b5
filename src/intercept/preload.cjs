// What every Node program of a shell loads first that ran `eval "$(latentd env)"`; latentd writes it at each start.
// Connections to fal's hosts go to the server on this machine. HTTPS_PROXY alone would not do: Node before 22.21 ignores
// it, and so do agents that programs bundle; what they send must not leave this machine.
"use strict";
(() => {
  const net = require("net");
  const normalize = net._normalizeArgs;
  const open = net.Socket.prototype.connect;

  const isFal = (host) => {
    const name = String(host).toLowerCase().replace(/\.$/, "");
    return latentd.domains.some((domain) => name === domain || name.endsWith("." + domain));
  };

  // Everything that connects ends here: fetch, WebSocket, https, and every package on top of them.
  net.Socket.prototype.connect = function (...args) {
    // What net itself calls with is normal already: a list of options and callback, known by a symbol on it.
    const normal = Array.isArray(args[0]) ? args[0] : normalize(args);
    const options = normal[0];
    if (options && !options.path && isFal(options.host)) {
      normal[0] = Object.assign({}, options, { host: latentd.host, port: latentd.port });
    }
    return open.call(this, normal);
  };
})();
