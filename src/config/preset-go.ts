/**
 * `goTree()`: a builder of Go's own tree, from its name alone: what the parts of the name mean is the Go project's custom.
 *
 *   GOOS-GOARCH     the first two; they choose make.bash, make.bat or make.rc, and how paths are written
 *   race            tests run with the race detector; std is installed for it first
 *   longtest        tests run in full, with the network
 *
 * What a machine is asked for, in this order:
 *
 *   write    go/VERSION (`devel COMMIT`), then the commit's tree to go; at the same time the bootstrap to go1.4
 *   make     go/src/make.bash ... -force
 *   remove   what no test needs; the tree is kept then
 *   list     go tool dist test --list
 *   run      go tool dist test NAMES: packages of std and cmd together, every other test by itself
 */
import type { BuilderInput, Duration, EnvInput } from "./input.ts";

/** The Go that builds Go. */
export type GoBootstrap =
  /** An archive that the machine fetches. `nested`: its content is in a folder `go`, as in all of https://go.dev/dl/, where that is the default. */
  | { readonly url: string; readonly nested?: boolean }
  /** A folder on the machine. */
  | { readonly path: string }
  /** The machine finds one by itself. */
  | "none";

/** Fields of a builder that `goTree` does not fill in itself. */
type Rest = Omit<BuilderInput, "steps" | "sources" | "baseEnv" | "tests" | "snapshot" | "timeLimit">;

export interface GoTreeOptions extends Rest {
  readonly bootstrap: GoBootstrap;
  /** Before `-force`. */
  readonly makeScriptArgs?: readonly string[];
  /** The make step is stopped after this long. Default `"1h"`. */
  readonly makeLimit?: Duration;
  /** Installed with the race detector after make. Default `std` for a race builder, nothing for others. */
  readonly racePackages?: readonly string[];
  /**
   * Patterns of the tests that are run, by the names of before Go 1.21: `["**", "!test:*", "!reboot"]`. Default all.
   */
  readonly only?: string | readonly string[];
  /** After a test failed, the rest runs too. Default false: nothing new is begun. */
  readonly keepGoing?: boolean;
  /** The machine sets GOPROXY itself. Default false. */
  readonly privateGoProxy?: boolean;
}

export function goTree(options: GoTreeOptions): BuilderInput {
  const {
    bootstrap,
    makeScriptArgs = [],
    makeLimit = "1h",
    racePackages,
    only,
    keepGoing = false,
    privateGoProxy,
    ...rest
  } = options;
  const { name, compileOnly = false, skipSnapshot = false } = rest;
  const machine = machineOf(name);
  const race = partsOf(name).includes("race");
  const longtest = partsOf(name).includes("longtest");
  const packages = racePackages ?? (race ? ["std"] : []);
  const flags = [...(race ? ["--race"] : []), ...(compileOnly ? ["--compile-only"] : [])];
  const dist = ["./go/bin/go", "tool", "dist", "test", "--no-rebuild"];
  const proxy = proxyOf(privateGoProxy ?? false, longtest);
  return {
    repos: "go",
    ...rest,
    sources: [
      { dir: "go", file: "VERSION", text: "devel $COMMIT", name: "write_version_tar" },
      { dir: "go", commit: "own", name: "write_go_src_tar" },
      ...sourceOf(bootstrap),
    ],
    ...(longtest && { baseEnv: { GO_TEST_SHORT: "0" } }),
    steps: [
      {
        name: "make",
        command: [`./${machine.makeScript}`, ...makeScriptArgs, "-force"],
        dir: "src",
        timeLimit: makeLimit,
        showCommand: true,
        ...environmentOf(bootstrap, machine),
      },
      ...(packages.length === 0
        ? []
        : [
            {
              name: "install_race_std",
              command: ["./go/bin/go", "install", "-race", ...packages],
              dir: "..",
              env: ["GOBIN="],
              timeLimit: makeLimit,
            },
          ]),
    ],
    tests: {
      list: {
        name: "discovering_tests",
        command: [...dist, "--list", ...flags],
        dir: "..",
        env: [`GOROOT=${machine.workDir("go")}`],
        timeLimit: "20m",
      },
      run: {
        name: "run_tests_multi",
        command: [...dist, `--banner=${BANNER}`, ...flags],
        dir: "..",
        env: [`GOROOT=${machine.workDir("go")}`, `GOPATH=${machine.workDir("gopath")}`, ...proxy],
        path: [machine.workDir("go", "bin"), "$PATH"],
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

/** Asked for as the mark of a section's beginning. */
const BANNER = "XXXBANNERXXX:";
const PUBLIC_PROXY = "https://proxy.golang.org";

interface GoMachine {
  readonly makeScript: string;
  /** A path below the work folder. */
  readonly workDir: (...path: readonly string[]) => string;
}

function partsOf(builder: string): readonly string[] {
  return builder.split("-");
}

function machineOf(builder: string): GoMachine {
  const [goos] = partsOf(builder);
  const scripts: { readonly [goos: string]: string } = { windows: "make.bat", plan9: "make.rc" };
  const separator = goos === "windows" ? "\\" : "/";
  return {
    makeScript: scripts[goos ?? ""] ?? "make.bash",
    workDir: (...path) => ["$WORKDIR", ...path].join(separator),
  };
}

function sourceOf(bootstrap: GoBootstrap): NonNullable<BuilderInput["sources"]> {
  if (bootstrap === "none" || "path" in bootstrap) return [];
  return [{ dir: "go1.4", url: bootstrap.url, name: "write_go_bootstrap_tar" }];
}

/**
 * How make finds the bootstrap: as a folder, or as the `go` on the PATH. A machine would look into go1.4 by itself, but decides on that once, at
 * its first command, and ours serve build after build.
 */
function environmentOf(bootstrap: GoBootstrap, machine: GoMachine): { env: EnvInput; path?: readonly string[] } {
  if (bootstrap === "none") return { env: ["GOBIN="] };
  if ("path" in bootstrap) return { env: ["GOBIN=", `GOROOT_BOOTSTRAP=${bootstrap.path}`] };
  const { url, nested = url.startsWith("https://go.dev/dl/") } = bootstrap;
  if (!nested) return { env: ["GOBIN=", `GOROOT_BOOTSTRAP=${machine.workDir("go1.4")}`] };
  return { env: ["GOBIN=", "GOROOT_BOOTSTRAP="], path: [machine.workDir("go1.4", "go", "bin"), "$PATH"] };
}

/** Tests of the main tree get no network, unless they are to be run in full. */
function proxyOf(privateGoProxy: boolean, outbound: boolean): readonly string[] {
  if (privateGoProxy) return [];
  return outbound ? [`GOPROXY=${PUBLIC_PROXY}`, "GO_DISABLE_OUTBOUND_NETWORK=0"] : ["GOPROXY=off"];
}
