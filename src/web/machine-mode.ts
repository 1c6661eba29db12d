/** The one word for what a machine is doing, for every page. */
import type { MachineMode } from "../ui/data.ts";

export interface MachineStanding {
  readonly open: boolean;
  /** It holds a lease. */
  readonly busy: boolean;
  /** By itself or with whatever it belongs to (store/drain.ts). */
  readonly drained: boolean;
  readonly setAside: boolean;
}

/** What it ends counts before what keeps it from more; whoever said so before what the farm found. */
export function modeOf({ open, busy, drained, setAside }: MachineStanding): MachineMode {
  if (open && busy) return "busy";
  if (drained) return "drained";
  if (setAside) return "set aside";
  return open ? "idle" : "away";
}
