// Fake servers that a test starts, kills and starts again.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** A fake server with the options of tests/http/fake_server.py. It is ready when `start` returns, unless `waits` is false. */
export class Server {
  constructor(options = {}) {
    this.options = { rows: 4, max_queue: 16, ...options };
    this.port = 0;
  }

  get base() {
    return `http://127.0.0.1:${this.port}`;
  }

  async start({ waits = true, ...more } = {}) {
    const options = { ...this.options, ...more };
    options.server = { access_log: false, ...options.server, port: this.port };
    this.process = spawn(process.env.PYTHON, [process.env.FAKE_SERVER, JSON.stringify(options)], { stdio: ["ignore", "pipe", "ignore"] });
    for await (const line of createInterface({ input: this.process.stdout })) {
      if (!line.startsWith("{")) continue;
      const said = JSON.parse(line);
      this.port ||= said.port;
      if (said.ready) return this;
      if (!waits) return this.listening();
    }
    throw new Error("the server did not start");
  }

  async listening() {
    for (;;) {
      if (await fetch(`${this.base}/health`).catch(() => null)) return this;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async kill() {
    if (!this.process || this.process.exitCode !== null || this.process.signalCode) return;
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGKILL");
    await ended;
  }
}

/** Start a server, run a test with it, and end it. */
export async function withServer(options, run) {
  const server = new Server(options);
  try {
    await server.start();
    await run(server);
  } finally {
    await server.kill();
  }
}
