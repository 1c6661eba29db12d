/**
 * Everything that a farm can be told, with what happens when it is left out. Copy what you need; three lists are enough:
 *
 *   export default defineFarm({ repos: [...], hosts: [...], builders: [...] });
 *
 * It is an ordinary TypeScript module: constants, loops and functions are yours, imports from beside it too. The coordinator takes a
 * changed file up by itself. `coordinator -config farm.config.ts -check` prints what it comes to, with every default filled in.
 */
import {
  autodetect,
  type BuilderInput,
  defineFarm,
  type HostInput,
  makeProject,
  npmPackage,
  openPolicy,
  type RepoInput,
  script,
} from "barnraiser";

const repos: RepoInput[] = [
  {
    // As in the address of its grid, /p/app. Letters, digits, '.', '_', '-'.
    name: "app",
    // A folder (relative to this file), file://, http(s)://, ssh:// or user@host:path. Never with a password in it.
    url: "https://git.example.org/team/app.git",
    // Names and globs: * is anything but '/', ** anything, ? one character, '!' takes away again.
    // Left out: HEAD, the repository's default branch.
    branches: ["HEAD", "release/*", "!release/old-*"],
    // Tries of these branches go before other tries. Default "release-branch*" and "release/*".
    releaseBranches: ["release/*"],
    // How often to look for commits; a webhook makes it look at once. Default "15s".
    poll: "1m",
    // When many commits appear at once (or the farm starts), so many of a branch's newest are built. Default 10.
    depth: 5,
    // So many of a branch's newest commits are in the grid. Default 100.
    history: 200,
    // POST /hooks/push is taken for this repository when it is signed with this secret. The secret itself never stands here.
    webhook: { env: "APP_WEBHOOK_SECRET" },
    // For https:// repositories that ask for a password: an access token, and the user name that goes with it.
    token: { file: "app-token" },
    tokenUser: "oauth2",
  },
  // An ssh address is read with the keys of the user who runs the coordinator.
  { name: "lib", url: "git@git.example.org:team/lib.git" },
];

const hosts: HostInput[] = [
  {
    // host-GOOS-GOARCH[-anything]. Machines register under it, keys are made for it, builds queue for it.
    hostType: "host-linux-arm-shelf",
    // Which programs these machines are given. Default: from the name, with -7 for 32-bit arm, so here "linux-arm-7".
    hostArch: "linux-arm-7",
    // How many should be connected; the front page says how many are missing. Default 0: none are missed.
    expect: 2,
    // One that is missing for longer is reported to its owners and the operators, once. Default "15m".
    missingAfter: "2h",
    // What runs goes on for so long, and is waited for, when its connection or its coordinator is lost; start the buildlet with a `-reconnect` of
    // at least as much. Default "5m".
    reconnectWithin: "30m",
    // Goes before the environment of every builder on it.
    env: { GOMAXPROCS: "2" },
    // Whom to ask when one is missing.
    // `notify`: who is told by the farm when one is missing, set aside or well again: mail addresses, webhooks. Default: the contact when it
    // is a mail address; [] for nobody.
    owners: [
      { name: "Ann Owner", contact: "ann@example.org", notify: ["ann@example.org", "https://chat.example.org/ann"] },
    ],
    notes: "Two boards on a shelf, on a slow line.",
    // reverse: machines dial in. local: the coordinator enrols the computer it runs on. Default reverse.
    pool: "reverse",
    // community machines only ever run submitted code. Default: community, or team for a local one.
    trust: "community",
    // false: only keys of one machine each are accepted, not the key that all of a host type share. Default true.
    sharedKey: false,
    // true: every connection is a freshly made machine (a virtual machine's image). Default false.
    hermetic: false,
    // Who may borrow its machines with `gomote`: "members" are all people the farm knows, "team" those with the role team or operator.
    // Default: nobody for community machines, else members.
    gomote: "team",
    // What their owner agrees to: that people run there what they like; taken back, it ends what people have there.
    // Default: false for community machines, else true.
    lend: { gomote: true },
    // So many are lent at a time, those included that somebody waits for. Default: all.
    gomoteMost: 1,
  },
  { hostType: "host-linux-amd64-rack", expect: 1, trust: "team" },
  { hostType: "host-windows-amd64-desk", trust: "team" },
];

const builders: BuilderInput[] = [
  {
    // A column of the grid, GOOS-GOARCH[-anything]: the first two parts group it.
    name: "linux-amd64",
    host: "host-linux-amd64-rack",
    // One step per command, each run by the machine's shell (sh -ec) at the root of the source tree.
    steps: script("make", "make test"),
  },
  {
    name: "linux-arm-release",
    host: "host-linux-arm-shelf",
    // Which repositories and branches, by name or glob, and a function if that is not enough: all that are given must agree.
    // All left out: everything that the repositories watch.
    repos: "app",
    branches: ["HEAD", "release/*"],
    builds: (_repo, branch) => branch !== "release/0.9",
    // A map, or a list of "KEY=value" where order matters. GO_BUILDER_NAME=<name> comes first, then the host's, then these.
    env: { CONFIG: "release" },
    steps: [
      "./configure",
      {
        name: "unit tests",
        // A list is run without a shell. A program with a '/' in it is relative to dir.
        command: ["./run-tests", "--all"],
        dir: "tests",
        env: { VERBOSE: "1" },
        // Instead of the machine's PATH; $PATH is that one, $WORKDIR the folder above the source tree.
        path: ["$WORKDIR/bin", "$PATH"],
        // The step is stopped with all it started, and has failed. Default: the builder's.
        timeLimit: "45m",
      },
    ],
    // For steps without one of their own. Default "1h".
    timeLimit: "30m",
    // All commands of a build together, one that prints nothing, and the source on its way to the machine. These are the defaults.
    buildTimeLimit: "6h",
    silenceLimit: "30m",
    uploadTimeLimit: "30m",
    // Issue numbers or addresses: failures are known, the column is grey.
    knownIssues: [1234, "https://git.example.org/team/app/issues/7"],
    notes: "Slow, but the only 32-bit one.",
    // What becomes of builds that still wait when a newer commit of their branch is found: "every" (they are built, the default), "newest"
    // (they are skipped) or "batch" (skipped while no machine is free for them, and built after all when the newest is red).
    superseded: "batch",
  },
  {
    name: "windows-amd64",
    host: "host-windows-amd64-desk",
    repos: "app",
    steps: ["build.cmd"], // run by cmd /c there
    // Builds nothing by itself, only what somebody asks for.
    tryOnly: true,
  },
  {
    name: "linux-amd64-lib",
    host: "host-linux-amd64-rack",
    repos: ["lib"],
    // Looks for package.json, go.mod, Cargo.toml, pyproject.toml or a Makefile, and runs what their kind is tested with.
    steps: autodetect(),
    // Neither keeps nor uses a snapshot of the built tree. Helpers start from one, so both together are a mistake.
    skipSnapshot: true,
    // The steps only, whatever tests there are.
    stopAfterMake: false,
    // Every command finds BARNRAISER_COMPILE_ONLY=1 in its environment.
    compileOnly: false,
  },
  {
    name: "linux-amd64-suite",
    host: "host-linux-amd64-rack",
    repos: ["lib"],
    steps: script("make"),
    // Run after the steps, test by test, shared with helpers. See tests.md.
    tests: {
      // Prints the name of a test a line; or a list of names.
      list: "./list-tests",
      // Runs a group of them. Text gets the names as "$@", at its end where it does not say itself; a list has them as further
      // arguments. Its timeLimit is that of a group; default "20m".
      run: { command: "./run-tests", timeLimit: "10m" },
      // file: the argument is a file with a name a line. Default args.
      names: "args",
      // How it is known what became of each test of a group: "exit" (the default), "go-test-json", "markers" or { junit: "GLOB" }.
      results: { junit: "reports/**/*.xml" },
      // A group takes about so long, by what its tests took before. Default "10s".
      groupTarget: "20s",
      // What a test is taken to need that has not run before. Default "3s".
      unknown: "1s",
      // false: after the first failure nothing new is begun. Default true.
      keepGoing: true,
    },
    // The tree after the steps, packed and kept: helpers, retries and rebuilds start from it.
    snapshot: {
      // In the words of a .gitignore. Default nothing.
      exclude: ["*.o", "/cache/"],
      // A larger one is not kept, which fails nothing. Default "2GiB".
      limit: "500MiB",
      // How long it may be reused. Default "168h".
      keep: "48h",
    },
    // Further machines for the tests, while that is useful; no build waits for them. Default 0. tryHelpers is for builds that
    // somebody asked for; default as many as helpers.
    helpers: 3,
    tryHelpers: 6,
  },
  {
    name: "linux-amd64-with-lib",
    host: "host-linux-amd64-rack",
    repos: "app",
    // Each commit of app is built together with the newest of lib, and again with every newer one: a build is of a pair.
    against: {
      repo: "lib",
      // Names and globs among the branches of lib, by their own names. Default all that it watches.
      branches: ["main", "release/*"],
      // Where this builder has kept its tree of the commit, that is taken, and steps with makesOther are left out.
      builtBy: "linux-amd64-suite",
    },
    // What is written to a machine first; to one dir in the order given, to different ones at once. Default: the commit's tree, to src.
    sources: [
      { dir: "lib", commit: "other" },
      { dir: "app", commit: "own" },
      // A file of your own; $COMMIT and $OTHER in its text are the two commits. $REPO in dir is the repository's name.
      { dir: "app", file: "REVISION", text: "$COMMIT with $OTHER" },
      // An archive (tar.gz) that the machine itself fetches. The log calls the writing by this name.
      { dir: "sdk", url: "https://example.org/sdk.tar.gz", name: "write_sdk" },
    ],
    steps: [
      // $WORKDIR is the folder that the sources are in; it may also stand in a variable. A step with showCommand begins its log with what is run.
      { name: "make lib", command: "make", dir: "$WORKDIR/lib", makesOther: true, showCommand: true },
      { name: "make", command: "make", env: { LIB: "$WORKDIR/lib" } },
    ],
    // Before the environment of the host type, which may know better.
    baseEnv: { JOBS: "4" },
    // Commands find GO_BUILDER_FLAKY_NET=1 in their environment.
    flakyNet: false,
    // Commits without which it cannot build (of lib, because of against): what has not all of them in its history is not built.
    needs: ["0123456789abcdef0123456789abcdef01234567"],
    // No branch release-branch.go1.N that is older.
    minimumGoVersion: "1.21",
    tests: {
      // The folders that have a file of this name are the tests; the command runs in each.
      list: { foldersWith: "Testfile" },
      names: "dir",
      run: "./run-tests",
      // Patterns of the tests that are run at all, and of those that never share a command. Default: all, and none.
      only: ["**", "!slow/**"],
      alone: "big-*",
      // Further arguments on some branches.
      argsOn: { branches: "release/*", args: ["--thorough"] },
      // go-test or go-dist: what Go's own tools list and run; see go.md.
      dialect: "go-test",
    },
    snapshot: {
      // Folders that are removed before the tree is kept, and so before the tests.
      remove: ["build/tmp"],
    },
  },
  // Presets: whole builders for common kinds of repositories. See configuration.md, and go.md for goTree() and goModule().
  { name: "linux-amd64-npm", host: "host-linux-amd64-rack", repos: "app", ...npmPackage() },
  {
    name: "linux-amd64-make",
    host: "host-linux-amd64-rack",
    repos: "lib",
    ...makeProject({ targets: ["check", "bench"] }),
  },
];

export default defineFarm({
  repos,
  hosts,
  builders,
  // Where people reach the pages: for links in messages.
  publicUrl: "https://farm.example.org",
  notify: {
    // Hear of everything that is wrong. The secret signs the webhook; its address may be a secret itself, too.
    operators: ["ops@example.org", { webhook: { env: "CHAT_HOOK" }, secret: { env: "CHAT_SECRET" } }],
    // How mail is sent. security: "starttls" (the default, port 587), "tls" (465) or "none" (25). caFile: when the world does not know its CA.
    mail: {
      host: "smtp.example.org",
      port: 587,
      security: "starttls",
      user: "farm",
      password: { file: "smtp-password" },
      from: "farm@example.org",
      caFile: "smtp-ca.pem",
    },
  },
  // How long things are kept, in days (30d) or as elsewhere (36h): logs of what succeeded, other logs, builds, what
  // people ran on machines that they borrowed, connections of machines, who did what, messages that were sent. These are the defaults.
  retention: {
    greenLogs: "30d",
    logs: "90d",
    builds: "365d",
    gomotes: "180d",
    sessions: "180d",
    audit: "730d",
    notices: "30d",
  },
  // Machines that people borrow: how many one person may have or wait for, when an unused one is taken back, when any is, and how long
  // somebody waits for one. What the coordinator fetches from elsewhere for them: "nothing" or "public" (what anybody in the world can have), and
  // from which ports.
  // And the largest file on its way to or from a machine. These are the defaults.
  gomote: {
    perPerson: 20,
    idle: "30m",
    longest: "7d",
    wait: "4h",
    fetch: "nothing",
    fetchPorts: [80, 443],
    transferLimit: "10GiB",
  },

  // Where users log in on the pages (docs/gomote.md): an OpenID Connect provider that knows PUBLICURL/login/callback. Default: with tokens only.
  // `allow`: who becomes a user by logging in; `roles`: given and taken at each login, default { member: "everybody" }.
  login: {
    issuer: "https://accounts.example.org",
    clientId: "farm",
    clientSecret: { env: "LOGIN_SECRET" },
    name: "Example accounts",
    allow: ["*@example.org"],
    roles: { member: "everybody", team: { claim: "groups", is: "farm-team" } },
  },
  // Rules over all builders. goPolicy is the Go project's; openPolicy, the default, refuses nothing.
  policy: openPolicy,
});
