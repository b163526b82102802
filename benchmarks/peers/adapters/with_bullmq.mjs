// BullMQ on Node: the same protocol as peers/child.py, which says what the lines are.
//
//     node with_bullmq.mjs produce|work PLACE
//
// Options of a place: "worker", the options of the worker's class. The folder that BullMQ is
// installed in is the working directory's, as Node looks for packages beside a file's folder.

import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(path.join(process.cwd(), "here.js"));
const { Queue, Worker } = require("bullmq");

// As in peers/child.py.
const ONE_BY_ONE = 20;
const BULK = 1000;
const SPIN = 1.2;

// As in peers/ledger.py.
const RECORD = 16;
const [STARTED, ENDED, WORKER] = [8, 9, 10];

const what = process.argv[2];
const place = JSON.parse(process.argv[3]);
const url = new URL(place.url);
const connection = {
  host: url.hostname,
  port: Number(url.port),
  db: Number(url.pathname.slice(1)),
};
const now = () => Number(process.hrtime.bigint()) / 1e9;
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// The job.

async function run(job, file) {
  const record = Buffer.allocUnsafe(RECORD);
  const at = RECORD * job.data.number;
  fs.readSync(file, record, 0, RECORD, at);
  record.writeDoubleLE(now(), 0);
  record[STARTED] += 1;
  record[WORKER] = place.worker;
  if (place.seconds) {
    fs.writeSync(file, record, 0, RECORD, at);
    await sleep(1000 * place.seconds);
  }
  record[ENDED] += 1;
  fs.writeSync(file, record, 0, RECORD, at);
}

function work() {
  const file = fs.openSync(place.ledger, "r+");
  const worker = new Worker(place.queue, (job) => run(job, file), {
    connection: { ...connection, maxRetriesPerRequest: null },
    concurrency: place.concurrency,
    ...place.options.worker,
  });
  process.on("SIGTERM", async () => {
    await worker.close();
    process.exit(0);
  });
}

// The producer.

// A job is gone once it has run.
const each = { removeOnComplete: true, removeOnFail: false };

async function push(queue, numbers) {
  for (const number of numbers) {
    await queue.add("job", { number }, each);
  }
}

async function pushBulk(queue, numbers) {
  await queue.addBulk(numbers.map((number) => ({ name: "job", data: { number }, opts: each })));
}

const range = (first, count) => Array.from({ length: count }, (_, at) => first + at);

const orders = {
  async push(queue, { first, count, seconds, bulk }) {
    const step = bulk ? BULK : ONE_BY_ONE;
    const began = now();
    let pushed = 0;
    while (count === null ? now() - began < seconds : pushed < count) {
      const size = count === null ? step : Math.min(step, count - pushed);
      await (bulk ? pushBulk : push)(queue, range(first + pushed, size));
      pushed += size;
    }
    return { count: pushed, seconds: now() - began };
  },
  async pace(queue, { first, count, rate }) {
    const pushed = [];
    const began = now();
    for (const number of range(0, count)) {
      const due = began + number / rate;
      const late = now() >= due;
      for (let ahead; (ahead = 1000 * (due - now())) > 0; ) {
        await (ahead > SPIN ? sleep(ahead - SPIN) : new Promise(setImmediate));
      }
      pushed.push(late ? due : now());
      await push(queue, [first + number]);
    }
    return { pushed };
  },
  async left(queue) {
    const counts = await queue.getJobCounts();
    return { left: Object.values(counts).reduce((sum, count) => sum + count, 0) };
  },
};

async function produce() {
  const queue = new Queue(place.queue, { connection });
  const answer = (what) => process.stdout.write(JSON.stringify(what) + "\n");
  const version = (name) => {
    const file = path.join(process.cwd(), "node_modules", name, "package.json");
    return JSON.parse(fs.readFileSync(file, "utf8")).version;
  };
  await queue.waitUntilReady();
  answer({ versions: { bullmq: version("bullmq"), ioredis: version("ioredis"), node: process.versions.node } });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    answer(await orders[order.do](queue, order));
  }
  await queue.close();
}

await (what === "work" ? work() : produce());
