/** The one word for what a machine is doing, the same on every page. */
import type { MachineMode } from "../ui/data.ts";

export interface MachineStanding {
  readonly open: boolean;
  /** Whether it holds a lease. */
  readonly busy: boolean;
  /** Whether it is drained: by itself, or with its host type, coordinator or farm (store/drain.ts). */
  readonly drained: boolean;
  readonly setAside: boolean;
}

/**
 * The mode of a machine. A lease counts most; then a drain, which a person ordered; then being set aside, which the
 * farm decided.
 */
export function modeOf({ open, busy, drained, setAside }: MachineStanding): MachineMode {
  if (open && busy) return "busy";
  if (drained) return "drained";
  if (setAside) return "set aside";
  return open ? "idle" : "away";
}
