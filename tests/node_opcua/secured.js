// A third party's OPC UA server with security on: one tag, one user, clients that it was told to trust.
"use strict";
const fs = require("node:fs");
const readline = require("node:readline");
const {
  DataType,
  MessageSecurityMode,
  OPCUACertificateManager,
  OPCUAServer,
  SecurityPolicy,
  Variant,
} = require("node-opcua");

const ask = JSON.parse(process.argv[2]);

async function main() {
  const manager = new OPCUACertificateManager({
    rootFolder: ask.folder,
    automaticallyAcceptUnknownCertificate: false,
  });
  await manager.initialize();
  const server = new OPCUAServer({
    port: ask.port,
    hostname: "127.0.0.1",
    allowAnonymous: true,
    skipOwnNamespace: true,
    serverCertificateManager: manager,
    securityPolicies: [
      SecurityPolicy.Basic256Sha256,
      SecurityPolicy.Aes128_Sha256_RsaOaep,
      SecurityPolicy.Aes256_Sha256_RsaPss,
    ],
    securityModes: [MessageSecurityMode.SignAndEncrypt, MessageSecurityMode.Sign],
    userManager: { isValidUser: (user, password) => ask.users[user] === password },
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const own = space.registerNamespace(ask.namespace);
  let value = 1.0;
  own.addVariable({
    componentOf: own.addFolder(space.rootFolder.objects, { browseName: "Plant" }),
    browseName: "level",
    nodeId: "s=level",
    dataType: DataType.Double,
    minimumSamplingInterval: 50,
    value: {
      get: () => new Variant({ dataType: DataType.Double, value }),
      set: (given) => {
        value = given.value;
      },
    },
  });
  await server.start();
  readline.createInterface({ input: process.stdin }).on("line", async (path) => {
    await manager.trustCertificate(fs.readFileSync(path));
    console.log("trusted");
  }).on("close", () => process.exit(0)); // whoever started us is gone
  console.log("ready");
}

main().catch((reason) => {
  console.error(reason);
  process.exit(1);
});
