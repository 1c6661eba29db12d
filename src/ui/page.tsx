/** All pages by name. The server and the browser show the same component for the same data. */
import type { JSX } from "preact";
import type { BuildLine, Frame } from "./data.ts";
import { BuildPage } from "./pages/build.tsx";
import type { BuildData } from "./pages/build-data.ts";
import { type BuildersData, BuildersPage } from "./pages/builders.tsx";
import { type CommitData, CommitPage } from "./pages/commit.tsx";
import { type DeviceData, DevicePage } from "./pages/device.tsx";
import { type GomoteData, GomotePage } from "./pages/gomote.tsx";
import { type GomoteCommandData, GomoteCommandPage } from "./pages/gomote-command.tsx";
import { type GomoteFilesData, GomoteFilesPage } from "./pages/gomote-files.tsx";
import { type GomotesData, GomotesPage } from "./pages/gomotes.tsx";
import { type GridData, GridPage } from "./pages/grid.tsx";
import { type HealthData, HealthPage } from "./pages/health.tsx";
import { type HomeData, HomePage } from "./pages/home.tsx";
import { type MachineData, MachinePage } from "./pages/machine.tsx";
import { type MachinesData, MachinesPage } from "./pages/machines.tsx";
import { type MeData, MePage } from "./pages/me.tsx";
import { type Hit, type LoginData, LoginPage, type MessageData, MessagePage, SearchPage } from "./pages/messages.tsx";
import { type PeopleData, PeoplePage } from "./pages/people.tsx";
import { type PersonData, PersonPage } from "./pages/person.tsx";
import { type QueueData, QueuesPage } from "./pages/queues.tsx";
import { SeveralContext } from "./several.ts";

export type Page =
  | { readonly name: "home"; readonly data: HomeData }
  | { readonly name: "builders"; readonly data: BuildersData }
  | { readonly name: "grid"; readonly data: GridData }
  | { readonly name: "commit"; readonly data: CommitData }
  | { readonly name: "build"; readonly data: BuildData }
  | {
      readonly name: "machines";
      readonly data: MachinesData & { readonly dial: string; readonly hostType: string | null };
    }
  | { readonly name: "machine"; readonly data: MachineData }
  | { readonly name: "queues"; readonly data: { readonly queues: readonly QueueData[] } }
  | { readonly name: "health"; readonly data: HealthData }
  | {
      readonly name: "search";
      readonly data: { readonly q: string; readonly hits: readonly Hit[]; readonly builds: readonly BuildLine[] };
    }
  | { readonly name: "message"; readonly data: MessageData }
  | { readonly name: "login"; readonly data: LoginData }
  | { readonly name: "me"; readonly data: MeData }
  | { readonly name: "people"; readonly data: PeopleData }
  | { readonly name: "person"; readonly data: PersonData }
  | { readonly name: "device"; readonly data: DeviceData }
  | { readonly name: "gomotes"; readonly data: GomotesData }
  | { readonly name: "gomote"; readonly data: GomoteData }
  | { readonly name: "gomote-command"; readonly data: GomoteCommandData }
  | { readonly name: "gomote-files"; readonly data: GomoteFilesData };

/** A page with its frame: the answer to `?format=json`, and the data that the browser begins with. */
export interface Envelope {
  readonly page: Page;
  readonly frame: Frame;
  /** The topics that change this page when they are published. */
  readonly topics: readonly string[];
  /** When the page was asked for. Changes that were published since then may be missing in it. */
  readonly askedAt: number;
}

export function Body(props: { envelope: Envelope }): JSX.Element {
  return (
    <SeveralContext.Provider value={props.envelope.frame.repos.length > 1}>
      <Content envelope={props.envelope} />
    </SeveralContext.Provider>
  );
}

function Content(props: { envelope: Envelope }): JSX.Element {
  const { page, frame } = props.envelope;
  switch (page.name) {
    case "home":
      return <HomePage data={page.data} now={frame.now} />;
    case "builders":
      return <BuildersPage data={page.data} operator={frame.operator} />;
    case "grid":
      return <GridPage data={page.data} />;
    case "commit":
      return <CommitPage data={page.data} />;
    case "build":
      return <BuildPage data={page.data} operator={frame.operator} />;
    case "machines":
      return <MachinesPage data={page.data} dial={page.data.dial} hostType={page.data.hostType} />;
    case "machine":
      return <MachinePage data={page.data} operator={frame.operator} />;
    case "queues":
      return <QueuesPage data={page.data} />;
    case "health":
      return <HealthPage data={page.data} operator={frame.operator} />;
    case "search":
      return <SearchPage data={page.data} />;
    case "message":
      return <MessagePage data={page.data} />;
    case "login":
      return <LoginPage data={page.data} />;
    case "me":
      return <MePage data={page.data} />;
    case "people":
      return <PeoplePage data={page.data} />;
    case "person":
      return <PersonPage data={page.data} />;
    case "device":
      return <DevicePage data={page.data} />;
    case "gomotes":
      return <GomotesPage data={page.data} />;
    case "gomote":
      return <GomotePage data={page.data} />;
    case "gomote-command":
      return <GomoteCommandPage data={page.data} />;
    case "gomote-files":
      return <GomoteFilesPage data={page.data} />;
  }
}
