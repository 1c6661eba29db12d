/** What the buildlet's API needs from the program around it. */

import type { TarLimits } from "../../wire/tar/tar-reader.ts";
import type { PtyPackageDeps } from "../shell/pty.ts";

export interface ApiDeps extends PtyPackageDeps {
  readonly workDir: string;
  readonly platform: NodeJS.Platform;
  /** `linux-amd64` */
  readonly system: string;
  /** Where the owner's sshd listens on localhost, if any does. */
  readonly sshPort: number;
  /** The password of listen mode; "" lets everybody in. */
  readonly password: string;
  /** Ends the session or the machine, a second from now. */
  readonly halt: () => void;
  /** Keeps commands off the internet where that was asked for and the system can. */
  readonly disableOutboundNetwork: () => Promise<void>;
  readonly tarLimits?: TarLimits;
  /** The id of a user that only the agent has: all of its processes end with a lease. */
  readonly ownUid?: number | undefined;
  /** The file of the running program, which packs snapshots. Undefined: this process packs them. */
  readonly program?: string | undefined;
}
