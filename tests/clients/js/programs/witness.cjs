// Loaded before a program by intercept.test.mjs: writes down every name that is looked up and every address that is
// connected to, where Node hands them to the system, and lets nothing leave this machine.
"use strict";
const { appendFileSync } = require("node:fs");
const dns = require("node:dns");
const { TCP } = process.binding("tcp_wrap");

const note = (what) => appendFileSync(process.env.WITNESS, what + "\n");

for (const name of ["connect", "connect6"]) {
  const connect = TCP.prototype[name];
  TCP.prototype[name] = function (request, address, port) {
    note(`connect ${address}:${port}`);
    return address === "127.0.0.1" ? connect.apply(this, arguments) : -101; // ENETUNREACH
  };
}

const unknown = (name) => Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: "ENOTFOUND" });
dns.lookup = (name, ...rest) => {
  note(`lookup ${name}`);
  process.nextTick(rest.at(-1), unknown(name));
};
dns.promises.lookup = async (name) => {
  note(`lookup ${name}`);
  throw unknown(name);
};
