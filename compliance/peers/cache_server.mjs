// Serve what the npm package "http-cache-tests" asks for: its own server, on loopback.
//
// Arguments: the package's folder; the loopback port to listen on.
//
// The package's server takes its settings from npm's variables and listens on every address, so
// the variables are set and the address is given here.
import http from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, port] = process.argv.slice(2);
process.env.npm_config_protocol = "http";
process.env.npm_config_port = port;
process.env.npm_config_pidfile = "server.pid";
const listen = http.Server.prototype.listen;
http.Server.prototype.listen = function (port) {
  return listen.call(this, Number(port), "127.0.0.1");
};
await import(pathToFileURL(join(folder, "server", "server.mjs")));
