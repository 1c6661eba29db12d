/** The configuration of the seed (seed.ts), and text of every kind that can stand in a name or a message. */
import { checkFarm } from "../../config/check.ts";
import type { FarmConfig } from "../../config/effective.ts";

export const HOSTILE = `<script>alert(1)</script> "quoted" 'and' & \u202egnp.exe שלום 🚜`;
/** The same without the characters that a configuration refuses. */
export const MARKUP = HOSTILE.replace("\u202e", "");
export const LONG = `a-very-long-name-${"x".repeat(180)}`;

/** The host types: one per machine that a builder can want. The second is lent. */
export const HOSTS = [
  "host-linux-amd64-shed",
  "host-linux-riscv64-lent",
  "host-darwin-arm64-shelf",
  "host-freebsd-amd64-attic",
] as const;
export const BUILDERS = [
  "linux-amd64",
  "linux-amd64-race",
  "linux-386",
  "linux-riscv64",
  "darwin-arm64",
  "darwin-arm64-longtest",
  "freebsd-amd64",
  "windows-amd64",
];

export function seedConfig(): FarmConfig {
  return checkFarm({
    repos: [
      { name: "app", url: "https://example.org/app.git", branches: ["main", "release-*"] },
      { name: "tools", url: "https://example.org/tools.git" },
    ],
    hosts: HOSTS.map((hostType, i) => ({
      hostType,
      expect: i + 1,
      trust: i === 1 ? "community" : "team",
      owners: [{ name: i === 1 ? MARKUP : `Owner ${i}`, contact: `owner${i}@example.org` }],
      notes: i === 1 ? "A board on a shelf, be kind to it." : "",
    })),
    builders: BUILDERS.map((name) => ({
      name,
      host: hostOf(name),
      ...(name === "windows-amd64" ? { branches: "release-*" } : {}),
      ...(name === "freebsd-amd64" ? { knownIssues: [1234, "https://example.org/issues/9"] } : {}),
      steps: [
        { name: "make", command: "make" },
        { name: "test", command: "make test" },
      ],
      notes: name === "linux-386" ? MARKUP : "",
    })),
  });
}

export function hostOf(builder: string): string {
  if (builder.includes("riscv64")) return HOSTS[1];
  if (builder.startsWith("darwin")) return HOSTS[2];
  if (builder.startsWith("freebsd")) return HOSTS[3];
  return HOSTS[0];
}
