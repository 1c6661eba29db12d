/**
 * `goTree()` makes a builder of Go's own tree. `goModule()` makes one of a repository of modules, tested with Go's own
 * tree. Both use the parts of the builder's name in the same way as the Go project:
 *
 *   GOOS-GOARCH     the first two; they choose make.bash, make.bat or make.rc, and how paths are written
 *   race            tests run with the race detector; std is installed for it first
 *   longtest        tests run in full, with the network
 *
 * The work of a machine, in this order:
 *
 *   write    go/VERSION (`devel COMMIT`), then the commit's tree to go; at the same time the bootstrap to go1.4
 *   make     go/src/make.bash ... -force
 *   remove   what no test needs; the tree is kept then
 *   list     go tool dist test --list
 *   run      go tool dist test NAMES: packages of std and cmd together, every other test by itself
 *
 * For modules the machine writes and makes the same, from the commit that they are tested with, and writes the modules
 * to gopath/src. Then `go test ./...` runs in every folder with a go.mod, in each even after one has failed.
 */
import type { BuilderInput, Duration, EnvInput, SourceInput, StepInput } from "./input.ts";

/** The Go that builds Go. */
export type GoBootstrap =
  /**
   * An archive that the machine fetches. `nested`: its content is in a folder `go`, which is the default for
   * https://go.dev/dl/.
   */
  | { readonly url: string; readonly nested?: boolean }
  /** A folder on the machine. */
  | { readonly path: string }
  /** The machine finds a Go by itself. */
  | "none";

/** Fields of a builder that the presets do not fill in themselves. */
type Rest = Omit<BuilderInput, "steps" | "sources" | "against" | "baseEnv" | "tests" | "snapshot" | "timeLimit">;

interface GoOptions extends Rest {
  readonly bootstrap: GoBootstrap;
  /** Arguments of the make script, before `-force`. */
  readonly makeScriptArgs?: readonly string[];
  /** The make step is stopped after this long. Default `"1h"`. */
  readonly makeLimit?: Duration;
  /**
   * Packages that are installed with the race detector after make. Default: `std` for a race builder, none for others.
   */
  readonly racePackages?: readonly string[];
  /** True: the machine sets GOPROXY itself. Default false. */
  readonly privateGoProxy?: boolean;
}

export interface GoTreeOptions extends GoOptions {
  /**
   * Patterns of the tests that are run, by the names from before Go 1.21: `["**", "!test:*", "!reboot"]`. Default all.
   */
  readonly only?: string | readonly string[];
  /** True: after a failed test the rest runs too. Default false: nothing new is begun. */
  readonly keepGoing?: boolean;
}

export function goTree(options: GoTreeOptions): BuilderInput {
  const { only, keepGoing = false, privateGoProxy = false, ...given } = options;
  const { name, compileOnly = false, skipSnapshot = false } = given;
  const { race, longtest } = partsOf(name);
  const { below } = machineOf(name);
  const flags = [...(race ? ["--race"] : []), ...(compileOnly ? ["--compile-only"] : [])];
  const dist = [GO, "tool", "dist", "test", "--no-rebuild"];
  const goroot = `GOROOT=${below("go")}`;
  return {
    repos: "go",
    ...restOf(given),
    sources: sourcesOf(given.bootstrap, "own"),
    steps: makeOf(given),
    tests: {
      list: {
        name: "discovering_tests",
        command: [...dist, "--list", ...flags],
        dir: "$WORKDIR",
        env: [goroot],
        timeLimit: "20m",
      },
      run: {
        name: "run_tests_multi",
        command: [...dist, `--banner=${BANNER}`, ...flags],
        dir: "$WORKDIR",
        // The network is used only when the tests run in full.
        env: [goroot, `GOPATH=${below("gopath")}`, ...proxyOf(privateGoProxy, longtest ? "public" : "off")],
        path: [below("go", "bin"), "$PATH"],
        timeLimit: "20m",
      },
      argsOn: { branches: "release-branch.*", args: ["-k"] },
      dialect: "go-dist",
      alone: ["**", "!go_test:**"],
      ...(only !== undefined && { only }),
      keepGoing,
    },
    ...(skipSnapshot ? {} : { snapshot: { remove: ["doc/gopher", "pkg/bootstrap"] } }),
  };
}

export interface GoModuleOptions extends Omit<GoOptions, "skipSnapshot" | "helpers" | "tryHelpers"> {
  /** The repositories that are tested. One builder may serve many. */
  readonly repos: string | readonly string[];
  /** The import path of a repository: `golang.org/x/$REPO`. */
  readonly importPath: string;
  /** Go's own repository and the branches of it. Default: the repository `go`, all branches that it watches. */
  readonly against?: { readonly repo?: string; readonly branches?: string | readonly string[] };
  /** A `goTree` builder. If it has kept the tree of the commit, that is used and nothing is made. */
  readonly builtBy?: string;
}

/** A repository of modules, tested with the tips of Go's own tree. Each module of it is a test. */
export function goModule(options: GoModuleOptions): BuilderInput {
  const { importPath, against = {}, builtBy, privateGoProxy = false, ...given } = options;
  const { name, compileOnly = false } = given;
  const { race, longtest } = partsOf(name);
  const { below } = machineOf(name);
  return {
    ...restOf(given),
    against: { repo: "go", ...against, ...(builtBy !== undefined && { builtBy }) },
    sources: [
      ...sourcesOf(given.bootstrap, "other"),
      { dir: `gopath/src/${importPath}`, commit: "own", name: "fetching_subrepo" },
    ],
    steps: makeOf(given).map((step) => ({ ...step, makesOther: true })),
    tests: {
      list: { foldersWith: "go.mod" },
      run: {
        name: "running_subrepo_tests",
        command: [
          ...[GO, "test"],
          ...(compileOnly ? ["-exec", "/bin/true"] : []),
          ...(longtest ? [] : ["-short"]),
          ...(race ? ["-race"] : []),
          ...["-timeout=10m", "./..."],
        ],
        env: [`GOROOT=${below("go")}`, `GOPATH=${below("gopath")}`, ...proxyOf(privateGoProxy, "public")],
        path: [below("go", "bin"), "$PATH"],
        timeLimit: "1h",
      },
      names: "dir",
      dialect: "go-test",
    },
    skipSnapshot: true,
  };
}

const GO = "$WORKDIR/go/bin/go";

/** The options that go to the builder itself. */
function restOf({
  bootstrap: _,
  makeScriptArgs: __,
  makeLimit: ___,
  racePackages: ____,
  ...rest
}: GoOptions): Rest & Pick<BuilderInput, "baseEnv"> {
  return partsOf(rest.name).longtest ? { ...rest, baseEnv: { GO_TEST_SHORT: "0" } } : rest;
}

/** Go's own tree in `go`, and what makes it in `go1.4`. */
function sourcesOf(bootstrap: GoBootstrap, commit: "own" | "other"): readonly SourceInput[] {
  const rev = commit === "own" ? "$COMMIT" : "$OTHER";
  const fetched = bootstrap !== "none" && "url" in bootstrap;
  return [
    { dir: "go", file: "VERSION", text: `devel ${rev}`, name: "write_version_tar" },
    { dir: "go", commit, name: "write_go_src_tar" },
    ...(fetched ? [{ dir: "go1.4", url: bootstrap.url, name: "write_go_bootstrap_tar" }] : []),
  ];
}

function makeOf({
  name,
  bootstrap,
  makeScriptArgs = [],
  makeLimit = "1h",
  racePackages,
}: GoOptions): readonly StepInput[] {
  const machine = machineOf(name);
  const packages = racePackages ?? (partsOf(name).race ? ["std"] : []);
  const make: StepInput = {
    name: "make",
    command: [`./${machine.makeScript}`, ...makeScriptArgs, "-force"],
    dir: "$WORKDIR/go/src",
    timeLimit: makeLimit,
    showCommand: true,
    ...environmentOf(bootstrap, machine),
  };
  if (packages.length === 0) return [make];
  const install: StepInput = {
    name: "install_race_std",
    command: [GO, "install", "-race", ...packages],
    dir: "$WORKDIR",
    env: ["GOBIN="],
    timeLimit: makeLimit,
  };
  return [make, install];
}

/** The beginning of a section in the output. Written for people, since the log shows a command's output unchanged. */
const BANNER = "##### ";
const PUBLIC_PROXY = "https://proxy.golang.org";

interface GoMachine {
  readonly makeScript: string;
  /** A path below the work folder. */
  readonly below: (...path: readonly string[]) => string;
}

function partsOf(builder: string): { readonly race: boolean; readonly longtest: boolean } {
  const parts = builder.split("-");
  return { race: parts.includes("race"), longtest: parts.includes("longtest") };
}

function machineOf(builder: string): GoMachine {
  const [goos = ""] = builder.split("-");
  const scripts: { readonly [goos: string]: string } = { windows: "make.bat", plan9: "make.rc" };
  const separator = goos === "windows" ? "\\" : "/";
  return {
    makeScript: scripts[goos] ?? "make.bash",
    below: (...path) => ["$WORKDIR", ...path].join(separator),
  };
}

/**
 * How make finds the bootstrap: as a folder, or as the `go` on the PATH. A machine would look into go1.4 by itself, but
 * it decides on that only once, at its first command, and our machines serve build after build.
 */
function environmentOf(bootstrap: GoBootstrap, machine: GoMachine): { env: EnvInput; path?: readonly string[] } {
  if (bootstrap === "none") return { env: ["GOBIN="] };
  if ("path" in bootstrap) return { env: ["GOBIN=", `GOROOT_BOOTSTRAP=${bootstrap.path}`] };
  const { url, nested = url.startsWith("https://go.dev/dl/") } = bootstrap;
  if (!nested) return { env: ["GOBIN=", `GOROOT_BOOTSTRAP=${machine.below("go1.4")}`] };
  return { env: ["GOBIN=", "GOROOT_BOOTSTRAP="], path: [machine.below("go1.4", "go", "bin"), "$PATH"] };
}

/** `public` comes with the network, even on a machine that turns it off for tests. */
function proxyOf(privateGoProxy: boolean, proxy: "public" | "off"): readonly string[] {
  if (privateGoProxy) return [];
  return proxy === "off" ? ["GOPROXY=off"] : [`GOPROXY=${PUBLIC_PROXY}`, "GO_DISABLE_OUTBOUND_NETWORK=0"];
}
