/**
 * What `npm start` runs: one clear line under a Node that is too old, otherwise build (well under a second) and start.
 * Plain JavaScript, so that an old Node can still read it.
 */
const wanted = 24;
if (Number(process.versions.node.split(".")[0]) < wanted) {
  console.error(
    `Barnraiser needs Node ${wanted}, this is ${process.versions.node}. On Linux and Windows \`npm ci\` brings it along; elsewhere install Node ${wanted}.`,
  );
  process.exit(2);
}
const { build } = await import("./build.ts");
await build();
await import("../dist/barnraiser.js");
