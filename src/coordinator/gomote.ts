/** Machines that people borrow: the parts of gomote/ put together, and the service beside the pages. */
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import type { CoordinatorId } from "../farm/ids.ts";
import { Creations } from "../gomote/creations.ts";
import { Holds } from "../gomote/holds.ts";
import { Instances, type InstancesDeps } from "../gomote/instances.ts";
import { MachineLines } from "../gomote/machine-lines.ts";
import { Commands } from "../gomote/rpc/commands.ts";
import type { Identify, SshKeys } from "../gomote/rpc/faces.ts";
import { gomoteService } from "../gomote/rpc/gomote-service.ts";
import { LetIn } from "../gomote/rpc/let-in.ts";
import { type OwnServiceDeps, ownService } from "../gomote/rpc/own-service.ts";
import { PeerCalls } from "../gomote/rpc/peer-calls.ts";
import { type Records, recordsOf } from "../gomote/rpc/requests.ts";
import { serveRpc } from "../gomote/rpc/serve-rpc.ts";
import { RunningCommands } from "../gomote/running-commands.ts";
import { Gate } from "../gomote/ssh/gate.ts";
import { type GatewayDeps, SshGateway } from "../gomote/ssh/gateway.ts";
import type { GatewayKeys } from "../gomote/ssh/keys.ts";
import { Terminals } from "../gomote/terminals/terminals.ts";
import { type World, worldAround } from "../gomote/transfers/guarded-fetch.ts";
import { serveTransfers } from "../gomote/transfers/serve-transfers.ts";
import { Transfers, type TransfersDeps } from "../gomote/transfers/transfers.ts";
import { WaitingRoom } from "../gomote/waiting-room.ts";
import type { PeerSignature } from "../peers/peer-signature.ts";
import type { Peers } from "../peers/peers.ts";
import { peopleOf } from "../store/people.ts";
import type { Sql } from "../store/sql.ts";
import type { RequestListener } from "../web/front-door.ts";

export interface GomoteDeps
  extends Pick<InstancesDeps, "machine" | "inUse" | "release">,
    Pick<TransfersDeps, "blobs" | "elsewhere" | "masterKey"> {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  readonly config: () => FarmConfig;
  readonly people: Identify;
  readonly peers: Peers;
  readonly signature: PeerSignature;
  readonly stopping: AbortSignal;
  readonly tarball: OwnServiceDeps["tarball"];
  readonly world?: World;
  readonly sshKeys?: SshKeys;
  /** The keys that shells need; undefined: there are no shells. */
  readonly shells?: { readonly keys: GatewayKeys };
}

export interface Gomote extends AsyncDisposable {
  readonly instances: Instances;
  readonly creations: Creations;
  readonly records: Records;
  readonly holds: Holds;
  readonly terminals: Terminals;
  readonly running: RunningCommands;
  /** The files that are being transferred, by the keys of their blobs. */
  readonly transfers: Pick<Transfers, "blob">;
  /** What shells use to reach machines; undefined: there are no shells. */
  readonly lines: MachineLines | undefined;
  /** Opens the ssh gateway. Throws FarmError. */
  listenSsh(listen: GatewayDeps["listen"]): Promise<SshGateway>;
  /** Answers calls of the service, and leaves all other requests to `others`. */
  serve(where: Where, others: RequestListener): RequestListener;
}

/** The addresses at which people reach what they borrow, apart from the service itself. */
export interface Where {
  /** The port of plain HTTP on loopback. */
  readonly plainPort: () => number;
  readonly ssh: OwnServiceDeps["ssh"];
}

export function openGomote(deps: GomoteDeps): Gomote {
  const { sql, bus, clock, log, coordinator, config, people, signature, stopping } = deps;
  const { tarball, shells } = deps;
  const world = deps.world ?? worldAround(() => reachedAt(deps));
  const stack = new AsyncDisposableStack();
  const peers = stack.use(new PeerCalls(deps));
  const letIn = stack.use(new LetIn({ people, bus, clock, log, config }));
  const instances = stack.use(new Instances({ ...deps, people: (ids) => peopleOf(sql, ids) }));
  const lines =
    shells && new MachineLines({ ...deps, instances, clientKey: (machine) => shells.keys.client(machine).publicLine });
  const gate = shells && new Gate({ sql, clock, log, instances, authority: shells.keys.authority });
  const sshKeys = deps.sshKeys ?? gate ?? NO_SSH_KEYS;
  const waiting = stack.use(new WaitingRoom(deps));
  const creations = new Creations({ sql, bus, clock, coordinator, config, instances, waiting });
  const holds = new Holds({ sql, bus, clock, coordinator, config, instances, waiting, stopping });
  const running = stack.use(new RunningCommands({ sql, bus, clock, log, coordinator, instances }));
  const commands = new Commands({ clock, config, running });
  const transfers = new Transfers({ ...deps, world });
  const records = recordsOf(sql, clock);
  const terminals = stack.use(new Terminals({ sql, clock, log, instances, commands: running }));
  const service = gomoteService({ config, instances, creations, commands, records, transfers, sshKeys });
  return {
    instances,
    lines,
    listenSsh: async (listen) => {
      if (!shells || !lines || !gate) throw new FarmError("internal", "Cannot listen for ssh without keys.");
      const { host, client } = shells.keys;
      const served = { sql, bus, clock, log, config, instances, lines, commands: running };
      return await SshGateway.open({ ...served, gate, host, client, listen });
    },
    creations,
    records,
    holds,
    terminals,
    running,
    transfers,
    serve: ({ plainPort, ssh }, others) => {
      const own = ownService({ sql, clock, config, instances, holds, running, records, tarball, ssh });
      return serveRpc(
        { letIn, peers, signature, coordinator, plainPort, log, stopping, service, own },
        serveTransfers({ transfers, clock, log }, others),
      );
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** The URLs of the farm's coordinators. */
async function reachedAt({ config, peers }: Pick<GomoteDeps, "config" | "peers">): Promise<readonly string[]> {
  const { publicUrl } = config();
  const others = (await peers.all()).map(({ address }) => `https://${address}`);
  return publicUrl === null ? others : [publicUrl, ...others];
}

const NO_SSH_KEYS: SshKeys = {
  sign: async () => {
    const message = "Cannot sign a key: this farm has no ssh gateway; its operator starts it with -listen-ssh.";
    throw new FarmError("conflict", message);
  },
};
