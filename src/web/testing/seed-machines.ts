/** The machines of the seed: idle, busy, away and drained, with the sessions that they had. */
import type { FarmConfig } from "../../config/effective.ts";
import { HOSTILE, HOSTS, LONG } from "./seed-config.ts";
import type { Story } from "./story.ts";

const MACHINES: readonly { hostType: string; name: string; how: "open" | "away" | "drained" }[] = [
  { hostType: HOSTS[0], name: "shed-1", how: "open" },
  { hostType: HOSTS[0], name: "shed-2", how: "open" },
  { hostType: HOSTS[0], name: LONG, how: "open" },
  { hostType: HOSTS[1], name: "riverboard", how: "open" },
  { hostType: HOSTS[1], name: HOSTILE, how: "away" },
  { hostType: HOSTS[2], name: "macmini", how: "open" },
  { hostType: HOSTS[3], name: "attic", how: "drained" },
];

/** The machine of the host type that runs whatever the story gives to no other. */
export function firstOf(hostType: string): string {
  return MACHINES.find((machine) => machine.hostType === hostType)?.name ?? "";
}

/** The machines, by name. */
export type SeededMachines = ReadonlyMap<string, { readonly id: number; readonly session: string }>;

export async function seedMachines({ sql, at, insert }: Story, config: FarmConfig): Promise<SeededMachines> {
  await sql.query(
    `insert into coordinator (id, host, pid, version, started_at, seen_at) values ('P000000001', 'farm', 1, '0.1.0', $1, $2)`,
    [at(9000), at(0)],
  );
  for (const host of config.hosts) {
    await sql.query(`insert into host_type (name, trust, expect, configured) values ($1, $2, $3, true)`, [
      host.hostType,
      host.trust,
      host.expect,
    ]);
  }
  await sql.query(
    `insert into machine_key (id, host_type, machine, sha256, made_at, expires_at) values ('K000000001', $1, 'riverboard', '\\x01', $2, $3)`,
    [HOSTS[1], at(90_000), at(-90_000)],
  );
  const machines = new Map<string, { id: number; session: string }>();
  for (const [i, { hostType, name, how }] of MACHINES.entries()) {
    const id = await insert(
      `insert into machine (host_type, name, key_id, first_seen_at, last_seen_at, agent, version, agent_digest, platform, address, drained_at, drain_note)
       values ($1, $2, $3, $4, $5, $6, 29, $7, $8, $9, $10, $11)`,
      [
        hostType,
        name,
        name === "riverboard" ? "K000000001" : null,
        at(50_000),
        at(how === "away" ? 300 : 0),
        i === 5 ? "original" : "barnraiser",
        i === 5 ? null : "ab".repeat(32),
        "linux/riscv64 Debian 13, 4 cores, 8 GiB",
        `203.0.113.${i}:40${i}00`,
        how === "drained" ? at(200) : null,
        how === "drained" ? "new disk" : null,
      ],
    );
    const session = (n: number): string => `${String(i).repeat(16)}${n}`.padEnd(32, "0");
    await sql.query(
      `insert into session (id, machine_id, coordinator_id, address, opened_at, closed_at, close_reason) values
       ($1, $4, 'P000000001', $5, $6, $7, 'stopped answering: no answer to 2 questions in a row whether it is there'), ($2, $4, 'P000000001', $5, $8, $9, 'it closed the connection'), ($3, $4, 'P000000001', $5, $10, $11, $12)`,
      [
        session(1),
        session(2),
        session(3),
        id,
        `203.0.113.${i}:40${i}00`,
        at(40_000),
        at(30_000),
        at(29_000),
        at(3000),
        at(2900),
        how === "away" ? at(300) : null,
        how === "away" ? "it closed the connection" : null,
      ],
    );
    machines.set(name, { id, session: session(3) });
  }
  await sql.query(
    `insert into machine_change (machine_id, at, field, was, became) values ($1, $2, 'version', '28', '29'), ($1, $3, 'platform', $4, $5)`,
    [machines.get("riverboard")?.id, at(20_000), at(10_000), "Debian 12", "Debian 13"],
  );
  return machines;
}
