/**
 * A user that only the agent has (`-own-user`): when a lease ends, every other process of this user is killed.
 *
 *   spared   the agent, its ancestors, and its session. All that a lease runs begins a session of its own, and a
 *            process cannot enter an existing one
 *   killed   all other processes of this user, older or younger than the agent, wherever they are. Older ones are left
 *            over from an agent that was killed, perhaps by them
 *
 * With nothing to spare, as under systemd, one call kills them all at once, so that none can fork out of its way.
 * Otherwise they are killed one by one, each with the group that it leads, until several looks in a row find none. A
 * process that cannot be ended within LIMIT (the system waits for a disk, say) is reported: the machine must not go to
 * the next lease.
 *
 * Whether a user is the agent's alone cannot be found out: an agent that starts with the machine is alone at first
 * under any user.
 */
import { readdirSync } from "node:fs";
import type { Clock } from "../../farm/clock.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import { ancestors, INIT, isAlive, read, statFields } from "./linux-processes.ts";

export const LIMIT: Ms = seconds(20);
const PAUSE: Ms = ms(5);
/** How many looks in a row must find none. One look may miss a process that forks and ends all the time. */
const CLEAR_LOOKS = 5;

/** The user of `-own-user`. Throws the reason why it cannot be the agent's alone. */
export function ownUser(platform: NodeJS.Platform, uid: number | undefined): number {
  if (platform !== "linux" || uid === undefined)
    throw new Error(`Cannot use -own-user on ${platform}: want Linux; a VM that starts anew does the same`);
  if (uid === 0)
    throw new Error("Cannot use -own-user as root, to whom the system's processes belong: start this as another user");
  return uid;
}

/** Resolves when only the agent is left of `uid`. Rejects when others are left after LIMIT. */
export async function killAllOthers(uid: number, clock: Clock): Promise<void> {
  const limit = clock.monotonic() + LIMIT;
  for (let clear = 0; ; ) {
    const { others, spared } = look(uid);
    clear = others.length === 0 ? clear + 1 : 0;
    if (clear === (spared ? CLEAR_LOOKS : 1)) return;
    if (clock.monotonic() > limit)
      throw new Error(
        `Cannot end what runs here: ${others.length} processes are left, ${others.slice(0, 5).join(", ")}`,
      );
    if (!spared) kill(-1);
    for (const pid of others) {
      kill(-pid);
      kill(pid);
    }
    await clock.sleep(PAUSE);
  }
}

/** Living processes of `uid` that must go, and whether there are any that are spared. */
function look(uid: number): { readonly others: readonly number[]; readonly spared: boolean } {
  const family = ancestors(process.pid);
  const [, , , session] = statFields("self");
  const others: number[] = [];
  let spared = false;
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!/^\d+$/.test(name) || pid === process.pid || pid === INIT || !mayBeKilledBy(uid, name)) continue;
    const fields = statFields(name);
    if (!isAlive(fields)) continue;
    if (family.has(pid) || fields[3] === session) spared = true;
    else others.push(pid);
  }
  return { others, spared };
}

/** Whether `uid` may kill the process by the system's rule: it counts who started it, and whom it may become again. */
function mayBeKilledBy(uid: number, pid: string): boolean {
  const [, real, saved] = /^Uid:\t(\d+)\t\d+\t(\d+)/m.exec(read(`/proc/${pid}/status`).toString("latin1")) ?? [];
  return Number(real) === uid || Number(saved) === uid;
}

/** Kills a process. -1 means all that we may kill but this process and init; another number below zero is a group. */
function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It is gone already, or leads no group.
  }
}
