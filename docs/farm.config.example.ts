/**
 * Every field of a farm's configuration, with its default. Copy the fields that you need; three lists are enough:
 *
 *   export default defineFarm({ repos: [...], hosts: [...], builders: [...] });
 *
 * This is an ordinary TypeScript module: use constants, loops, functions, and imports of files beside it. The
 * coordinator takes up a changed file by itself. `coordinator -config farm.config.ts -check` prints the result, with
 * every default.
 *
 * Words: the people of a farm are the users whom it knows. Each of them has roles: member, team, operator.
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
    // The name in the address of its grid, /p/app. Letters, digits, '.', '_', '-'.
    name: "app",
    // A folder (relative to this file), file://, http(s)://, ssh:// or user@host:path, without a password in it.
    url: "https://git.example.org/team/app.git",
    // Names and globs: * is anything but '/', ** anything, ? one character, '!' takes away again.
    // Default: HEAD, which is the repository's default branch.
    branches: ["HEAD", "release/*", "!release/old-*"],
    // Tries of these branches go before other tries. Default: "release-branch*" and "release/*".
    releaseBranches: ["release/*"],
    // How often the farm looks for commits. A webhook makes it look at once. Default: "15s".
    poll: "1m",
    // How many of a branch's newest commits are built when many appear at once, or when the farm starts. Default: 10.
    depth: 5,
    // How many of a branch's newest commits are in the grid. Default: 100.
    history: 200,
    // The secret that signs POST /hooks/push for this repository: where it is kept, never the secret itself.
    webhook: { env: "APP_WEBHOOK_SECRET" },
    // An access token, for an https:// repository that asks for a password.
    token: { file: "app-token" },
    // The user name that goes with the token. Default: "x-access-token".
    tokenUser: "oauth2",
  },
  // An ssh address is read with the keys of the user who runs the coordinator.
  { name: "lib", url: "git@git.example.org:team/lib.git" },
];

const hosts: HostInput[] = [
  {
    // host-GOOS-GOARCH[-anything]. Machines register under this name, keys are made for it, builds queue for it.
    hostType: "host-linux-arm-shelf",
    // Which programs these machines get. Default: from the name, with -7 for 32-bit arm; so here "linux-arm-7".
    hostArch: "linux-arm-7",
    // How many machines should be connected. The front page says how many are missing. Default: 0, so none is missed.
    expect: 2,
    // A machine that is missing for longer is reported once, to its owners and the operators. Default: "15m".
    missingAfter: "2h",
    // How long commands go on, and the farm waits for them, after the connection or the coordinator is lost.
    // Start the buildlet with a `-reconnect` that is at least as long. Default: "5m".
    reconnectWithin: "30m",
    // Variables for every builder on this host type. Those of the builder win.
    env: { GOMAXPROCS: "2" },
    owners: [
      {
        name: "Ann Owner",
        // A mail address, chat handle or URL, shown to readers who find a machine missing.
        contact: "ann@example.org",
        // Mail addresses and webhooks that hear when a machine is missing, set aside or well again.
        // Default: the contact, if it is a mail address. [] is nobody.
        notify: ["ann@example.org", "https://chat.example.org/ann"],
      },
    ],
    notes: "Two boards on a shelf, on a slow line.",
    // reverse: machines dial in. local: the coordinator enrols the computer that it runs on. Default: reverse.
    pool: "reverse",
    // community: the machines run submitted code only. Default: community; for a local pool, team.
    trust: "community",
    // false: the key that all machines of a host type share is refused; each machine needs its own key. Default: true.
    sharedKey: false,
    // true: every connection is a freshly made machine, such as a virtual machine from an image. Default: false.
    hermetic: false,
    // Who may borrow these machines: "members" are people with any role, "team" people with the role team or operator.
    // Default: "nobody" for community machines, else "members".
    gomote: "team",
    // Whether the owner agrees that people run there what they like. Setting it to false ends what people have there.
    // Default: false for community machines, else true.
    lend: { gomote: true },
    // How many machines are lent at a time, including those that somebody waits for. Default: all.
    gomoteMost: 1,
  },
  { hostType: "host-linux-amd64-rack", expect: 1, trust: "team" },
  { hostType: "host-windows-amd64-desk", trust: "team" },
];

const builders: BuilderInput[] = [
  {
    // A column of the grid, GOOS-GOARCH[-anything]. The first two parts group the columns.
    name: "linux-amd64",
    host: "host-linux-amd64-rack",
    // One step for each command. The machine's shell runs it (sh -ec) at the root of the source tree.
    steps: script("make", "make test"),
  },
  {
    name: "linux-arm-release",
    host: "host-linux-arm-shelf",
    // Which repositories and branches, by name or glob, and a function if that is not enough. All that are given must
    // agree. Without any of the three: everything that the repositories watch.
    repos: "app",
    branches: ["HEAD", "release/*"],
    builds: (_repo, branch) => branch !== "release/0.9",
    // A map, or a list of "KEY=value" if the order matters. GO_BUILDER_NAME=<name> comes first, then the variables of
    // the host type, then these.
    env: { CONFIG: "release" },
    steps: [
      "./configure",
      {
        name: "unit tests",
        // A list is run without a shell. A program with a '/' in its name is relative to dir.
        command: ["./run-tests", "--all"],
        dir: "tests",
        env: { VERBOSE: "1" },
        // Replaces the machine's PATH. $PATH is the machine's own, $WORKDIR its work folder, above the source tree.
        path: ["$WORKDIR/bin", "$PATH"],
        // After this time the step is stopped, with all that it started, and has failed. Default: the builder's.
        timeLimit: "45m",
      },
    ],
    // For steps without a time limit of their own. Default: "1h".
    timeLimit: "30m",
    // For all commands of a build together. Default: "6h".
    buildTimeLimit: "6h",
    // For the time that a command prints nothing. Default: "30m".
    silenceLimit: "30m",
    // For the source on its way to the machine. Default: "30m".
    uploadTimeLimit: "30m",
    // Numbers or addresses of issues. The failures are known: the column is grey.
    knownIssues: [1234, "https://git.example.org/team/app/issues/7"],
    notes: "Slow, but the only 32-bit one.",
    // What happens to waiting builds when a newer commit of their branch is found. "every", the default: they are
    // built. "newest": they are skipped. "batch": they are skipped while no machine is free for them; when the newest
    // is red, commits in between are built until the one that broke it is known.
    superseded: "batch",
  },
  {
    name: "windows-amd64",
    host: "host-windows-amd64-desk",
    repos: "app",
    steps: ["build.cmd"], // run by cmd /c there
    // Builds nothing by itself, only what somebody asks for. Default: false.
    tryOnly: true,
  },
  {
    name: "linux-amd64-lib",
    host: "host-linux-amd64-rack",
    repos: ["lib"],
    // Looks for package.json, go.mod, Cargo.toml, pyproject.toml or a Makefile, and runs the usual tests of that kind.
    steps: autodetect(),
    // true: the built tree is not kept as a snapshot, and no snapshot is used. Helpers need one, so both together are a
    // mistake. Default: false.
    skipSnapshot: true,
    // The build ends after its steps, even if it has tests. Default: false.
    stopAfterMake: false,
    // true: every command finds BARNRAISER_COMPILE_ONLY=1 in its environment. Default: false.
    compileOnly: false,
  },
  {
    name: "linux-amd64-suite",
    host: "host-linux-amd64-rack",
    repos: ["lib"],
    steps: script("make"),
    // Tests that run after the steps, shared with helpers. See tests.md.
    tests: {
      // A command that prints the names of the tests, one on each line; or a list of the names.
      list: "./list-tests",
      // Runs a group of tests. Text gets the names as "$@", added at its end if it is not there; a list gets them as
      // further arguments. The timeLimit is for one group; default: "20m".
      run: { command: "./run-tests", timeLimit: "10m" },
      // "args": the names are arguments. "file": the argument is a file with one name on each line. Default: "args".
      names: "args",
      // Where the result of each test comes from: "exit" (the default), "go-test-json", "markers" or { junit: "GLOB" }.
      results: { junit: "reports/**/*.xml" },
      // How long a group should take, judging by how long its tests took before. Default: "10s".
      groupTarget: "20s",
      // How long a test that never ran is expected to take. Default: "3s".
      unknown: "1s",
      // false: after the first failure nothing new is begun. Default: true.
      keepGoing: true,
    },
    // The tree after the steps is packed and kept. Helpers, retries and rebuilds start from it.
    snapshot: {
      // What is left out, as in a .gitignore. Default: nothing.
      exclude: ["*.o", "/cache/"],
      // A packed tree that is larger is not kept, and no build fails for it. Default: "2GiB".
      limit: "500MiB",
      // How long it may be used; each use renews it. Default: "168h".
      keep: "48h",
    },
    // How many further machines may share the tests. No build waits for them. Default: 0.
    helpers: 3,
    // The same for builds that somebody asked for. Default: as many as helpers.
    tryHelpers: 6,
  },
  {
    name: "linux-amd64-with-lib",
    host: "host-linux-amd64-rack",
    repos: "app",
    // Each commit of app is built together with the newest commit of lib, and again with every newer one. So each build
    // is of a pair of commits.
    against: {
      repo: "lib",
      // Names and globs of branches of lib. Default: all that lib watches.
      branches: ["main", "release/*"],
      // If this builder has kept a snapshot of the commit of lib, that is used, and steps with makesOther are left out.
      builtBy: "linux-amd64-suite",
    },
    // What is written to a machine first: to one dir in the order given, to different ones at the same time.
    // Default: the tree of the commit, to src.
    sources: [
      { dir: "lib", commit: "other" },
      { dir: "app", commit: "own" },
      // A file of your own. $COMMIT and $OTHER in its text are the two commits. $REPO in dir is the repository's name.
      { dir: "app", file: "REVISION", text: "$COMMIT with $OTHER" },
      // An archive (tar.gz) that the machine itself fetches. Its name appears in the log.
      { dir: "sdk", url: "https://example.org/sdk.tar.gz", name: "write_sdk" },
    ],
    steps: [
      // $WORKDIR is the folder that holds all sources; variables may use it, too. makesOther: the step makes the tree
      // of lib. showCommand: the log of the step begins with the command.
      { name: "make lib", command: "make", dir: "$WORKDIR/lib", makesOther: true, showCommand: true },
      { name: "make", command: "make", env: { LIB: "$WORKDIR/lib" } },
    ],
    // Variables of the builder that those of the host type override.
    baseEnv: { JOBS: "4" },
    // true: commands find GO_BUILDER_FLAKY_NET=1 in their environment. Default: false.
    flakyNet: false,
    // Commits that the builder needs: a commit without all of them in its history is not built. Because of `against`,
    // they are commits of lib.
    needs: ["0123456789abcdef0123456789abcdef01234567"],
    // Branches release-branch.go1.N that are older are not built.
    minimumGoVersion: "1.21",
    tests: {
      // Each folder that has a file of this name is a test.
      list: { foldersWith: "Testfile" },
      // The command runs in the folder, without arguments.
      names: "dir",
      run: "./run-tests",
      // Patterns of the tests that are run. Default: all.
      only: ["**", "!slow/**"],
      // Patterns of the tests that never share a command with others. Default: none.
      alone: "big-*",
      // Further arguments of the command on some branches.
      argsOn: { branches: "release/*", args: ["--thorough"] },
      // "go-test" or "go-dist": the tests are listed and run by Go's own tools. See go.md.
      dialect: "go-test",
    },
    snapshot: {
      // Folders that are removed before the tree is kept, and thus before the tests. Default: none.
      remove: ["build/tmp"],
    },
  },
  // Presets are whole builders for common kinds of repositories: see configuration.md, for Go's own tree go.md.
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
  // Where people reach the pages. Links in messages lead there. Default: messages have no links.
  publicUrl: "https://farm.example.org",
  notify: {
    // Who hears of everything that is wrong. The secret signs the messages of a webhook, whose address may be a secret,
    // too. Default: nobody.
    operators: ["ops@example.org", { webhook: { env: "CHAT_HOOK" }, secret: { env: "CHAT_SECRET" } }],
    // How mail is sent. Default: no mail is sent.
    mail: {
      host: "smtp.example.org",
      // Default: 587 for "starttls", 465 for "tls", 25 for "none".
      port: 587,
      // "starttls" (the default), "tls" or "none".
      security: "starttls",
      user: "farm",
      password: { file: "smtp-password" },
      from: "farm@example.org",
      // The certificate of the server's CA, if that is not a public one.
      caFile: "smtp-ca.pem",
    },
  },
  // How long things are kept, in days (30d) or in other units (36h). These are the defaults.
  retention: {
    // Logs of builds that succeeded.
    greenLogs: "30d",
    // All other logs.
    logs: "90d",
    builds: "365d",
    // What people ran on machines that they had borrowed.
    gomotes: "180d",
    // Connections of machines.
    sessions: "180d",
    // Who did what.
    audit: "730d",
    // Messages that were sent.
    notices: "30d",
  },
  // Machines that people borrow (gomote.md). These are the defaults.
  gomote: {
    // How many machines one person may have or wait for.
    perPerson: 20,
    // A machine that its borrower has not used for so long is taken back.
    idle: "30m",
    // Any machine is taken back after so long.
    longest: "7d",
    // How long a person waits for a machine.
    wait: "4h",
    // What the coordinator fetches for people from elsewhere: "nothing", or "public" (what is public on the internet).
    fetch: "nothing",
    // From which ports it is fetched.
    fetchPorts: [80, 443],
    // The largest file that may travel to or from a machine.
    transferLimit: "10GiB",
  },

  // Where users log in on the pages: an OpenID Connect provider at which PUBLICURL/login/callback is registered
  // (gomote.md). Default: users log in with tokens only.
  login: {
    issuer: "https://accounts.example.org",
    clientId: "farm",
    clientSecret: { env: "LOGIN_SECRET" },
    // What the button on the page says. Default: the host of `issuer`.
    name: "Example accounts",
    // Who becomes a user by logging in. Default: nobody; an operator adds users.
    allow: ["*@example.org"],
    // Roles that are given and taken away at each login. Default: { member: "everybody" }.
    roles: { member: "everybody", team: { claim: "groups", is: "farm-team" } },
  },
  // Rules for all builders. goPolicy has the Go project's rules. openPolicy, the default, refuses nothing.
  policy: openPolicy,
});
