/**
 * The program of `npmPackage()` as a text, which configurations hand to machines. A configuration is data and reads no files: the text is put
 * into it in place of the name NPM_TESTS, by the build and, where tests run from source, by vitest.
 */
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

export function npmTests(): { readonly NPM_TESTS: string } {
  const { outputFiles } = buildSync({
    absWorkingDir: fileURLToPath(new URL("..", import.meta.url)),
    entryPoints: ["src/cmd/npm-tests/main.ts"],
    bundle: true,
    write: false,
    platform: "node",
    format: "cjs",
    target: "node18",
    minifySyntax: true,
    minifyWhitespace: true,
  });
  return { NPM_TESTS: JSON.stringify(outputFiles[0]?.text.trim()) };
}
