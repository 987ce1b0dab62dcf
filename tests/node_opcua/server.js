// A third party's OPC UA server that counts: the same plant as tests/counting_plant.py.
//
// Sample k of every tag is dated `began + k * period` of plant time and is a function of k alone. The
// ledger says which were emitted, also by a server that was killed.
"use strict";
const fs = require("node:fs");
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
const frozen = []; // stretches of samples that were never emitted

const ledger = fs.openSync(ask.ledger, "a");
const writeDown = (first, last) => fs.writeSync(ledger, `${first} ${last}\n`);

const plantNow = () => ask.began_ms + ask.speed * (Date.now() - ask.wall_ms);
const timeOf = (k) => new Date(ask.began_ms + k * ask.period_ms);
const newest = () => Math.floor((plantNow() - ask.began_ms) / ask.period_ms);
const isEmitted = (k) => !frozen.some(([first, last]) => first <= k && k <= last);

const double = (value) => new Variant({ dataType: DataType.Double, value });
const ODD = { 3: double(NaN), 4: double(Infinity), 5: new Variant({ dataType: DataType.String, value: "off" }) };

function sample(tag, k) {
  const time = timeOf(k);
  let value = double(k);
  let statusCode = StatusCodes.Good;
  if (tag === "steady") value = double(5);
  if (tag === "odd") value = ODD[k % 7] ?? value;
  if (tag === "quality" && k % 10 === 4) statusCode = StatusCodes.BadSensorFailure;
  if (tag === "quality" && k % 10 === 7) statusCode = StatusCodes.UncertainLastUsableValue;
  return new DataValue({ value, statusCode, sourceTimestamp: time, serverTimestamp: time });
}

function historian(tag, state) {
  return {
    push: async () => {},
    extractDataValues(details, most, isReversed, isTurned, callback) {
      const position = (time) => (time.getTime() - ask.began_ms) / ask.period_ms;
      const first = Math.max(1, Math.ceil(position(details.startTime)));
      const last = Math.min(state.shown, Math.floor(position(details.endTime)));
      const values = [];
      for (let k = first; k <= last; k++) if (isEmitted(k)) values.push(sample(tag, k));
      callback(null, values);
    },
  };
}

async function main() {
  const most = ask.most_per_call || 1000;
  const server = new OPCUAServer({
    port: ask.port,
    hostname: "127.0.0.1",
    allowAnonymous: true,
    maxConnectionsPerEndpoint: 50, // or 20
    skipOwnNamespace: true,
    serverCertificateManager: new OPCUACertificateManager({
      rootFolder: ask.folder,
      automaticallyAcceptUnknownCertificate: ask.is_secured,
    }),
    serverCapabilities: {
      // Those that a reset left behind last until they time out.
      maxSessions: 500,
      maxSubscriptions: 500,
      minSupportedSampleRate: 0, // or it reports changes at most every 50 ms
      operationLimits: {
        maxNodesPerRead: most,
        maxNodesPerBrowse: most,
        maxMonitoredItemsPerCall: most,
        maxNodesPerHistoryReadData: most,
      },
    },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const owners = ask.namespaces.map((uri) => space.registerNamespace(uri));
  const own = owners[ask.namespaces.indexOf(ask.namespace)];
  const state = { shown: Math.max(0, newest() - 1) };
  writeDown(1, state.shown);
  const folder = own.addFolder(space.rootFolder.objects, { browseName: "Plant" });
  for (let i = 0; i < (ask.more_variables || 0); i++) {
    own.addVariable({ componentOf: folder, browseName: `v${i}`, nodeId: `s=v${i}`, dataType: DataType.Double });
  }
  const nodes = ask.tags.map((tag) => {
    const node = own.addVariable({
      componentOf: folder,
      browseName: tag,
      nodeId: `s=${tag}`,
      dataType: DataType.Double,
      minimumSamplingInterval: 0,
    });
    if (tag === "odd") node.verifyVariantCompatibility = () => {}; // it sends what it did not declare
    if (ask.keeps_history) {
      space.installHistoricalDataNode(node, { historian: historian(tag, state) });
    }
    return node;
  });
  own.addVariable({
    componentOf: folder,
    browseName: ask.speed_node,
    nodeId: `s=${ask.speed_node}`,
    dataType: DataType.Double,
    value: double(ask.speed),
  });
  // Not setValueFromSource: that would date what has no source time.
  const show = (tag, i) => nodes[i]._internal_set_dataValue(sample(tag, state.shown));
  ask.tags.forEach(show);
  await server.start();
  setInterval(() => {
    const last = newest();
    while (state.shown < last) {
      state.shown += 1;
      if (!isEmitted(state.shown)) continue;
      writeDown(state.shown, state.shown);
      ask.tags.forEach(show);
    }
  }, Math.max(10, ask.period_ms / ask.speed / 4));
  readline.createInterface({ input: process.stdin }).on("line", (line) => {
    if (line === "freeze") frozen.push([state.shown + 1, Infinity]);
    if (line === "thaw") frozen.at(-1)[1] = newest();
    console.log(line);
  }).on("close", () => process.exit(0)); // whoever started us is gone
  console.log("ready");
}

main().catch((reason) => {
  console.error(reason);
  process.exit(1);
});
