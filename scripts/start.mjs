/** What `npm start` runs: builds (well under a second) and starts. */
import "./newer-node.mjs";

const { build } = await import("./build.ts");
await build();
await import("../dist/barnraiser.js");
