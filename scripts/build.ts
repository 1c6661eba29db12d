/**
 * `npm run build`: the programs, in well under a second.
 *
 *   dist/{coordinator,barnraiser,genbuilderkey}.js  server programs, which begin by looking at Node's version; their dependencies stay in node_modules
 *   dist/farm-config.js                             what `import ... from "barnraiser"` gives a configuration
 *   dist/sql/                                       migrations
 *   dist/agents/{buildlet,stage0}.mjs               machine-side programs, each one file that needs nothing but Node 20
 *   dist/agents/pty-PLATFORM.tgz                    what an agent fetches for its first terminal
 *   dist/gomote.mjs                                 the command for developers' computers, one file as well
 *   dist/ui/                                        browser islands and style sheet
 */
import { cp, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { npmTests } from "./npm-tests.ts";
import { packPty } from "./pty-packages.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

const shared = { absWorkingDir: root, bundle: true, legalComments: "none", logLevel: "warning" } as const;

/**
 * Node's own modules by require instead of import. Importing `node:http` or `node:crypto` as ES modules reads everything that
 * they export, which loads fetch, web crypto and HTTP/2: 10 MB of an idle agent's memory. It also leaves modules that only
 * lazily loaded code needs unloaded until then.
 */
const builtinsByRequire: esbuild.Plugin = {
  name: "builtins-by-require",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:/ }, ({ path, namespace }) =>
      namespace === "builtin" ? { path, external: true } : { path, namespace: "builtin" },
    );
    onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = require("${path}");`,
    }));
  },
};

const REQUIRE = 'import{createRequire}from"node:module";const require=createRequire(import.meta.url);';

/** Programs for the farm's own computers. */
const SERVER_PROGRAMS = ["coordinator", "barnraiser", "genbuilderkey"];

/** Programs for computers that have nothing of ours but this file. */
const oneFile = {
  ...shared,
  outExtension: { ".js": ".mjs" },
  platform: "node",
  format: "esm",
  target: "node20",
  minifySyntax: true,
  minifyWhitespace: true,
  plugins: [builtinsByRequire],
  banner: { js: REQUIRE },
} satisfies esbuild.BuildOptions;

export async function build(): Promise<void> {
  const draft = `${root}dist.draft-${process.pid}`;
  await mkdir(`${draft}/agents`, { recursive: true });
  await Promise.all([
    esbuild.build({
      ...shared,
      entryPoints: {
        ...Object.fromEntries(SERVER_PROGRAMS.map((name) => [`${name}.main`, `src/cmd/${name}/main.ts`])),
        "farm-config": "src/config/farm-config.ts",
      },
      outdir: draft,
      platform: "node",
      format: "esm",
      target: "node24",
      packages: "external",
      define: npmTests(),
      splitting: true,
      sourcemap: true,
      jsx: "automatic",
      jsxImportSource: "preact",
    }),
    esbuild.build({
      ...oneFile,
      entryPoints: { buildlet: "src/cmd/buildlet/main.ts", stage0: "src/cmd/stage0/main.ts" },
      outdir: `${draft}/agents`,
    }),
    esbuild.build({
      ...oneFile,
      entryPoints: { gomote: "src/cmd/gomote/main.ts" },
      outdir: draft,
      banner: { js: `#!/usr/bin/env node\n${REQUIRE}` },
    }),
    esbuild.build({
      ...shared,
      entryPoints: ["src/ui/islands/farm.tsx", "src/ui/style.css"],
      entryNames: "[name]",
      chunkNames: "chunk-[name]-[hash]",
      outdir: `${draft}/ui`,
      platform: "browser",
      format: "esm",
      target: "es2022",
      minify: true,
      splitting: true,
      jsx: "automatic",
      jsxImportSource: "preact",
    }),
    cp(`${root}scripts/newer-node.mjs`, `${draft}/newer-node.mjs`),
    ...SERVER_PROGRAMS.map((name) =>
      writeFile(`${draft}/${name}.js`, `import "./newer-node.mjs";\n\nawait import("./${name}.main.js");\n`),
    ),
    packPty(`${draft}/agents`),
    cp(`${root}src/store/sql`, `${draft}/sql`, { recursive: true }),
  ]);
  // A running farm serves dist/ui and dist/agents: it must never see half of a build.
  await rm(`${root}dist`, { recursive: true, force: true });
  await rename(draft, `${root}dist`);
}

if (import.meta.main) await build();
