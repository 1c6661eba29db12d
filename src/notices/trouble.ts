/**
 * What is wrong with the farm, and of what people have been told. Pure: what is seen and what is written down in, changes out.
 *
 *   missing     a machine that its host type expects is away for longer than `missingAfter`
 *   short       a host type has fewer machines than it expects, and nobody knows which: they never dialled in
 *   set-aside   a machine failed the farm too often (store/set-aside.ts)
 *   repo        a repository cannot be fetched
 *   key         a machine's key is about to expire
 *   config      a changed configuration cannot be used by one coordinator
 *
 *   unknown -seen-> noticed -due, and gathered-> told -well, and gathered-> unknown;  noticed -not seen-> unknown, nobody heard of it
 *
 * What nobody is to be told of stays noticed, and is told once the configuration has somebody for it.
 *
 * One row stands for one trouble and outlives every coordinator, so that everything is told once. Nothing is told before the first that is
 * due has been so for GATHER: what goes wrong together (a coordinator's network) is told together; the same holds for what is well again. Coming
 * back for a moment changes nothing. What is not expected any more (drained, taken out of the configuration) ends without a word.
 */
import { type EpochMs, type Ms, minutes, plus } from "../farm/ids.ts";

const KINDS = ["missing", "short", "set-aside", "repo", "key", "config"] as const;
export type TroubleKind = (typeof KINDS)[number];

export const GATHER: Ms = minutes(1);

/** What messages say of a trouble: names as they were then. */
export interface About {
  /** Null: not a machine's. */
  readonly hostType: string | null;
  readonly name: string;
  readonly detail: string;
}

export interface Trouble {
  readonly kind: TroubleKind;
  /** `noun:id`, as in topics. */
  readonly subject: string;
  readonly since: EpochMs;
  readonly about: About;
}

/** A trouble that there is now; people are to be told from `dueAt` on, or so long after it was noticed. */
export interface Seen extends Trouble {
  readonly due: { readonly at: EpochMs } | { readonly after: Ms };
}

/** A trouble as it is written down. */
export interface Known extends Trouble {
  readonly noticedAt: EpochMs;
  /** Null: noticed only. */
  readonly toldAt: EpochMs | null;
  /** Since when it is not seen any more, after it was told. */
  readonly wellAt: EpochMs | null;
}

export interface Facts {
  readonly seen: readonly Seen[];
  /** Whether there is anybody to be told. */
  readonly hasRecipient: (trouble: Trouble) => boolean;
  /** Whether what is not seen any more is well, or just not expected any more. */
  readonly isWell: (known: Known) => boolean;
  /** Whether this coordinator can judge it: of a configuration only its own. */
  readonly judges: (known: Known) => boolean;
}

export interface Changes {
  /** To be written down. */
  readonly noticed: readonly Trouble[];
  /** People are told of them now. */
  readonly told: readonly Trouble[];
  /** People are told that they are over. */
  readonly over: readonly Known[];
  /** They look over, or not over again. */
  readonly wellAt: readonly { readonly known: Known; readonly at: EpochMs | null }[];
  /** To be forgotten without a word. */
  readonly moot: readonly Known[];
}

export function decide(facts: Facts, known: readonly Known[], now: EpochMs): Changes {
  const rows = new Map(known.map((row) => [keyOf(row), row]));
  const seen = new Map(facts.seen.map((trouble) => [keyOf(trouble), trouble]));
  const noticed = facts.seen.filter((trouble) => !rows.has(keyOf(trouble)));
  const due = facts.seen.flatMap((trouble) => {
    const row = rows.get(keyOf(trouble));
    if ((row && row.toldAt !== null) || !facts.hasRecipient(trouble)) return [];
    const at = "at" in trouble.due ? trouble.due.at : plus(row?.noticedAt ?? now, trouble.due.after);
    return at <= now ? [{ trouble, at }] : [];
  });
  const wellAt: { known: Known; at: EpochMs | null }[] = [];
  const moot: Known[] = [];
  const well: Known[] = [];
  for (const row of known) {
    if (seen.has(keyOf(row))) {
      if (row.wellAt !== null) wellAt.push({ known: row, at: null });
    } else if (!facts.judges(row)) continue;
    else if (row.toldAt === null || !facts.isWell(row)) moot.push(row);
    else {
      if (row.wellAt === null) wellAt.push({ known: row, at: now });
      well.push({ ...row, wellAt: row.wellAt ?? now });
    }
  }
  return {
    noticed,
    told: gathered(
      due.map((each) => each.at),
      now,
    )
      ? due.map((each) => each.trouble)
      : [],
    over: gathered(
      well.map((row) => row.wellAt ?? now),
      now,
    )
      ? well
      : [],
    wellAt,
    moot,
  };
}

/** The first of `times` is long enough ago for the others to have followed. */
function gathered(times: readonly EpochMs[], now: EpochMs): boolean {
  return times.some((time) => plus(time, GATHER) <= now);
}

function keyOf({ kind, subject }: Pick<Trouble, "kind" | "subject">): string {
  return `${kind} ${subject}`;
}
