// Echo every message with the npm package "ws", permessage-deflate accepted.
//
// Arguments: the loopback port to listen on.
"use strict";
const { WebSocketServer } = require("ws");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  perMessageDeflate: true,
  // The suite sends up to 65,536 fragments a message; 16,384 are the most without this.
  maxFragments: 100000,
});
server.on("connection", (socket) => {
  // Without a listener a protocol error of the client would end the process.
  socket.on("error", () => {});
  socket.on("message", (content, isBinary) => socket.send(content, { binary: isBinary }));
});
