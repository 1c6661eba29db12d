/** What is special about pushing a Go tree: the products of its build, which belong to the machine, and VERSION. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

const GENERATED: ReadonlySet<string> = new Set([
  "src/cmd/cgo/zdefaultcc.go",
  "src/cmd/go/internal/cfg/zdefaultcc.go",
  "src/cmd/go/internal/cfg/zosarch.go",
  "src/cmd/internal/objabi/zbootstrap.go",
  "src/go/build/zcgo.go",
  "src/internal/buildcfg/zbootstrap.go",
  "src/internal/runtime/sys/zversion.go",
  "src/runtime/internal/sys/zversion.go",
  "src/time/tzdata/zzipdata.go",
]);

/** Whether `name` is a product of a build here, and never sent. */
export function isMadeHere(name: string): boolean {
  return GENERATED.has(name) || name === "VERSION.cache";
}

/** Whether `name` is a product of a build there, and never removed from the instance. */
export function isMadeThere(name: string): boolean {
  return GENERATED.has(name) || name === "VERSION" || /^(bin|pkg)(\/|$)/.test(name);
}

/** The version of a tree without VERSION, so that its tools can be built. */
export async function developmentVersion(root: string): Promise<string> {
  const source = await readFile(join(root, "src/internal/goversion/goversion.go"), "utf8");
  const [, version] = /^const Version = (\d+)/m.exec(source) ?? [];
  if (version === undefined) throw new Error(`Cannot tell the version of ${root}: src/internal/goversion names none`);
  return `go1.${version}-devel_gomote`;
}
