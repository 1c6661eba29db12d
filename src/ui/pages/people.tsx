/** `/people`, for operators: who uses the farm, with which roles, and whether they still do. */
import type { JSX } from "preact";
import { Empty, Name, Pages, Section, Table, When } from "../parts.tsx";
import { plural, visible } from "../text.ts";

export interface PersonLine {
  readonly id: string;
  readonly email: string;
  readonly roles: readonly string[];
  readonly createdAt: number;
  /** How many valid tokens they have. */
  readonly tokens: number;
  /** When one of their tokens was used last. */
  readonly lastUsedAt: number | null;
  /** How many machines they have or wait for. */
  readonly instances: number;
}

export interface PeopleData {
  readonly people: readonly PersonLine[];
  readonly total: number;
  readonly page: number;
  readonly pages: number;
  readonly filter: string;
  /** The name of the farm's login provider, if people may become users by logging in there. Else null. */
  readonly provider: string | null;
}

export const ROLE_MEANING: Readonly<Record<string, string>> = {
  operator: "runs the farm: every button of every page",
  team: "borrows machines that are lent to the team",
  member: "borrows machines that are lent to members",
};

export function PeoplePage(props: { data: PeopleData }): JSX.Element {
  const { people, total, filter, page, pages, provider } = props.data;
  return (
    <>
      <h1>
        People <span class="aside">{plural(total, "user")}</span>
      </h1>
      <form class="filter" action="/people">
        <input name="q" value={filter} placeholder="mail address or role" aria-label="Filter by mail address or role" />
        <button type="submit">Filter</button>
      </form>
      {people.length > 0 ? (
        <People people={people} />
      ) : (
        <Empty>
          {filter === "" ? "There are no users yet: add the first one below." : `Nobody matches “${visible(filter)}”.`}
        </Empty>
      )}
      <Pages of="people" page={page} pages={pages} href={(other) => pageHref(filter, other)} />
      <Section id="add" title="Add a user">
        <form method="post" action="/people" class="act add-person">
          <label>
            Mail address <input type="email" name="email" required maxLength={254} placeholder="alice@example.org" />
          </label>
          <Roles given={["member"]} />
          <button type="submit">Add</button>
        </form>
        <p class="muted">
          {provider === null
            ? "They log in with a token, of which you make the first on the page that follows."
            : `They log in at ${visible(provider)} with this address, or with a token that you make them.`}
        </p>
      </Section>
    </>
  );
}

function People(props: { people: readonly PersonLine[] }): JSX.Element {
  return (
    <Table
      label="People"
      class="config people"
      head={["User", "Roles", "#Instances", "#Good tokens", "#Token last used", "#Since"]}
    >
      {props.people.map((person) => (
        <tr key={person.id} data-row>
          <th scope="row">
            <a href={`/people/${person.id}`} class="open">
              <Name text={person.email} />
            </a>
          </th>
          <td data-label="Roles">
            {person.roles.length === 0 ? <span class="muted">none: reads</span> : person.roles.join(", ")}
          </td>
          <td data-label="Instances" class="right num">
            {person.instances}
          </td>
          <td data-label="Good tokens" class="right num">
            {person.tokens}
          </td>
          <td data-label="Last used" class="right when">
            {person.lastUsedAt === null ? <span class="muted">never</span> : <When at={person.lastUsedAt} />}
          </td>
          <td data-label="Since" class="right when">
            <When at={person.createdAt} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** The roles of a person, to be ticked. */
export function Roles(props: { given: readonly string[] }): JSX.Element {
  return (
    <fieldset class="choose-roles">
      <legend class="sr">Roles</legend>
      {Object.entries(ROLE_MEANING).map(([role, meaning]) => (
        <label key={role} title={meaning}>
          <input type="checkbox" name="roles" value={role} defaultChecked={props.given.includes(role)} /> {role}
        </label>
      ))}
    </fieldset>
  );
}

function pageHref(filter: string, page: number): string {
  return `/people?${filter === "" ? "" : `q=${encodeURIComponent(filter)}&`}page=${page}`;
}
