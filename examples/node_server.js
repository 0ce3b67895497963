// A small server for node.toml: says which worker answered; /slow answers in two parts, half a second apart.
'use strict';
const http = require('node:http');

const { POOLMASTER_POOL: pool, POOLMASTER_SLOT: slot } = process.env;
const body = `hello from ${pool}:${slot} pid ${process.pid}\n`;

const server = http.createServer((request, response) => {
  const slow = request.url === '/slow';
  response.writeHead(200, { 'content-type': 'text/plain', 'content-length': body.length * (slow ? 2 : 1) });
  if (!slow) return response.end(body);
  response.write(body);
  setTimeout(() => response.end(body), 500);
});

server.listen({ fd: Number(process.argv[2]) });

// The stop signal: no new connections, idle ones are closed, requests that have begun are finished.
process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
