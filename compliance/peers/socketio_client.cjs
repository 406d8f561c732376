// Exchange events with socketio_server.cjs, by the npm package "socket.io-client".
//
// Arguments: the server's origin; the path; "upgrade" or "websocket".
//
// Every step that went well is a line of output.  The first that did not ends the process with
// status 1, and so does any that takes longer than LIMIT_MS.
"use strict";
const assert = require("assert");
const { io } = require("socket.io-client");

const LIMIT_MS = 15000;
const SIZES = [0, 1, 1000, 300000];
const [origin, path, mode] = process.argv.slice(2);

function octetsOf(size) {
  return Buffer.from(Array.from({ length: size }, (_, at) => (at * 7) % 256));
}

function sumOf(octets) {
  return octets.reduce((sum, octet) => sum + octet, 0);
}

function next(emitter, event) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no "${event}"`)), LIMIT_MS);
    emitter.once(event, (...words) => {
      clearTimeout(timer);
      resolve(words);
    });
  });
}

async function exchange(socket) {
  for (const size of SIZES) {
    const octets = octetsOf(size);
    const reversed = await socket.timeout(LIMIT_MS).emitWithAck("reverse", octets);
    assert.deepStrictEqual(Buffer.from(reversed), Buffer.from(octets).reverse());
    const told = next(socket, "told");
    socket.emit("call me", octets);
    assert.deepStrictEqual(await told, [sumOf(octets)]);
  }
  console.log(`events and acks both ways with ${SIZES.join(", ")} octets`);
}

async function main() {
  const options = { path, reconnection: false, timeout: LIMIT_MS, forceNew: true };
  if (mode === "websocket") {
    options.transports = ["websocket"];
  }
  const socket = io(origin, options);
  const failed = new Promise((_, reject) => {
    socket.on("connect_error", reject);
    socket.on("disconnect", (reason) => reject(new Error(`disconnected: ${reason}`)));
  });
  socket.on("sum", (octets, ack) => ack(sumOf(Buffer.from(octets))));
  const first = new Promise((resolve) => {
    // Before "connect": the upgrade may be over by then.
    socket.io.engine.once("open", () => resolve(socket.io.engine.transport.name));
  });
  const upgraded = mode === "upgrade" ? next(socket.io.engine, "upgrade") : Promise.resolve();
  await Promise.race([next(socket, "connect"), failed]);
  assert.strictEqual(await first, mode === "upgrade" ? "polling" : "websocket");
  console.log(`connected by ${await first}`);
  await Promise.race([upgraded, failed]);
  assert.strictEqual(socket.io.engine.transport.name, "websocket");
  const theirs = await socket.timeout(LIMIT_MS).emitWithAck("transport");
  assert.strictEqual(theirs, "websocket");
  console.log("the transport of both ends is websocket");
  await Promise.race([exchange(socket), failed]);
  socket.off("disconnect");
  const ended = next(socket, "disconnect");
  socket.disconnect();
  assert.strictEqual((await ended)[0], "io client disconnect");
  console.log("disconnected");
}

main().then(
  () => process.exit(0),
  (error) => {
    console.log(`FAILED: ${error.stack}`);
    process.exit(1);
  },
);
