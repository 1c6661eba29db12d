/** A farm with one builder, `mod`, which tests repository `app` with the newest commit of repository `go`. */
import { checkFarm } from "../../config/check.ts";
import type { FarmConfig } from "../../config/effective.ts";

export const HOST = "host-linux-amd64-x";

export const PAIR_FARM: FarmConfig = checkFarm({
  repos: ["app", "go"].map((name) => ({ name, url: name, depth: 1 })),
  hosts: [{ hostType: HOST, trust: "team" }],
  builders: [
    {
      name: "mod",
      host: HOST,
      repos: ["app"],
      steps: ["make"],
      against: { repo: "go", branches: ["main"] },
      sources: [
        { dir: "src", commit: "own" },
        { dir: "go", commit: "other" },
      ],
    },
  ],
});
