// Preloaded into a program by intercept.test.mjs: records every DNS lookup and every connection at the point where Node
// calls the system, and blocks all that would leave this machine.
"use strict";
const { appendFileSync } = require("node:fs");
const dns = require("node:dns");
const { TCP } = process.binding("tcp_wrap");

const record = (what) => appendFileSync(process.env.CONNECTION_LOG, what + "\n");

for (const name of ["connect", "connect6"]) {
  const connect = TCP.prototype[name];
  TCP.prototype[name] = function (request, address, port) {
    record(`connect ${address}:${port}`);
    return address === "127.0.0.1" ? connect.apply(this, arguments) : -101; // ENETUNREACH
  };
}

const unknown = (name) => Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: "ENOTFOUND" });
dns.lookup = (name, ...rest) => {
  record(`lookup ${name}`);
  process.nextTick(rest.at(-1), unknown(name));
};
dns.promises.lookup = async (name) => {
  record(`lookup ${name}`);
  throw unknown(name);
};
