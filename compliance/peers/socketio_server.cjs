// Answer events with the npm package "socket.io", and send some of its own.
//
// Arguments: the loopback port to listen on; the path to serve.
//
// "reverse" (octets, ack): acks the octets in reverse order.
// "transport" (ack): acks the name of the transport that the server sees.
// "call me" (octets): emits "sum" (octets) to the client and, with the client's ack, "told" (ack).
"use strict";
const { createServer } = require("http");
const { Server } = require("socket.io");

const http = createServer();
const server = new Server(http, { path: process.argv[3], perMessageDeflate: true });
server.on("connection", (socket) => {
  socket.on("reverse", (octets, ack) => ack(Buffer.from(octets).reverse()));
  socket.on("transport", (ack) => ack(socket.conn.transport.name));
  socket.on("call me", async (octets) => {
    const sum = await socket.timeout(10000).emitWithAck("sum", octets);
    socket.emit("told", sum);
  });
});
http.listen(Number(process.argv[2]), "127.0.0.1");
