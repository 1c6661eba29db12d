/**
 * Imported first by whatever needs the Node of this project: ends with one clear line under one that is too old to read the rest.
 * Plain JavaScript of long ago, for that reason.
 */
const wanted = 24;
if (Number(process.versions.node.split(".")[0]) < wanted) {
  console.error(
    `Barnraiser needs Node ${wanted}, this is ${process.versions.node}. On Linux and Windows \`npm ci\` brings it along (node_modules/.bin/node); elsewhere install Node ${wanted}.`,
  );
  process.exit(2);
}
