// A third party's OPC UA server with a PLC behind it: what was written, and in which type, is told.
//
// The plant of tests/test_writeback_third_party.py. A write shows with the next sample. Words on
// stdin, each answered by a line that begins with `answer`: `writes` what was written since it was
// asked last, as JSON; `clamp N` the most that a setpoint becomes; `answer NAME` what is said to a
// setpoint, which is done all the same; `ignore` does none of it, and from then on only what changes
// gets a new time, `heed` ends that; `cut` or `drop` let all clients
// go just before the next sample that would show a setpoint, which stands then, or is gone too.
"use strict";
const readline = require("node:readline");
const {
  DataType,
  DataValue,
  OPCUACertificateManager,
  OPCUAServer,
  StatusCodes,
  Variant,
} = require("node-opcua");

const ask = JSON.parse(process.argv[2]);
const AUTO = 0;
const REMOTE = 1;
const plc = { clamp: Infinity, answer: "Good", ignores: false, fault: "", stop: false, heartbeat: 0 };
const loops = ask.loops.map((loop) => ({ ...loop, mode: AUTO, setpoint: 5, used: loop.used, coming: null }));
let writes = [];

function sampled() {
  const isComing = loops.some((loop) => loop.coming !== null);
  const fault = isComing ? plc.fault : "";
  if (fault) plc.fault = "";
  for (const loop of loops) {
    if (loop.coming !== null && fault !== "drop") {
      loop.setpoint = loop.coming;
      if (loop.has_steps !== true) loop.mode = REMOTE; // else the mode is a switch of its own
    }
    loop.coming = null;
    if (plc.stop) loop.mode = AUTO;
    if (loop.mode === REMOTE) loop.used = loop.setpoint;
  }
  return fault;
}

async function main() {
  const server = new OPCUAServer({
    port: ask.port,
    hostname: "127.0.0.1",
    allowAnonymous: true,
    skipOwnNamespace: true,
    serverCertificateManager: new OPCUACertificateManager({ rootFolder: ask.folder }),
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const own = space.registerNamespace(ask.namespace);
  const folder = own.addFolder(space.rootFolder.objects, { browseName: "Plant" });
  const shown = []; // how each tag gets the value of a sample

  function add(name, type, read, write) {
    const dataType = DataType[type];
    let value;
    const show = () => {
      if (plc.ignores && value !== undefined && value.value.value === read()) return;
      const now = new Date();
      const variant = new Variant({ dataType, value: read() });
      value = new DataValue({ value: variant, sourceTimestamp: now, serverTimestamp: now });
    };
    show();
    shown.push(show);
    own.addVariable({
      componentOf: folder,
      browseName: name,
      nodeId: `s=${name}`,
      dataType,
      accessLevel: write ? "CurrentRead | CurrentWrite" : "CurrentRead",
      userAccessLevel: write ? "CurrentRead | CurrentWrite" : "CurrentRead",
      minimumSamplingInterval: ask.sample_ms,
      value: {
        timestamped_get: () => value,
        timestamped_set: (given, callback) => {
          if (!write) return callback(null, StatusCodes.BadNotWritable);
          writes.push([name, DataType[given.value.dataType], given.value.value]);
          const code = write(given.value.value) || "Good";
          callback(null, StatusCodes[code]);
        },
      },
    });
  }

  for (const loop of loops) {
    const take = (value) => {
      if (!plc.ignores) loop.coming = Math.min(value, plc.clamp);
      return plc.answer;
    };
    add(`${loop.name}.setpoint`, loop.type, () => loop.setpoint, take);
    add(`${loop.name}.mode`, "UInt16", () => loop.mode, (value) => void (loop.mode = value));
    add(`${loop.name}.used`, "Double", () => loop.used);
  }
  add("tank.level", "Double", () => 10);
  add("plc.heartbeat", "UInt32", () => plc.heartbeat, (value) => void (plc.heartbeat = value));
  add("plc.stop", "Boolean", () => plc.stop, (value) => void (plc.stop = value));
  await server.start();
  setInterval(() => {
    if (sampled()) server.endpoints.forEach((each) => each.abruptlyInterruptChannels());
    shown.forEach((show) => show());
  }, ask.sample_ms);
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    const [word, number] = line.split(" ");
    if (word === "clamp") plc.clamp = Number(number);
    if (word === "answer") plc.answer = number;
    if (word === "ignore" || word === "heed") plc.ignores = word === "ignore";
    if (word === "cut" || word === "drop") plc.fault = word;
    console.log(`answer ${word === "writes" ? JSON.stringify(writes) : line}`);
    if (word === "writes") writes = [];
  }).on("close", () => process.exit(0)); // whoever started us is gone
  console.log("ready");
}

main().catch((reason) => {
  console.error(reason);
  process.exit(1);
});
