/**
 * `/device`: a program without a browser asks to be let in. A person types its code, sees which program asks, and
 * answers yes or no.
 */
import type { JSX } from "preact";
import { Name, When } from "../parts.tsx";

interface Asking {
  readonly userCode: string;
  readonly program: string;
  readonly address: string;
  readonly askedAt: number;
}

export type DeviceData =
  | { readonly state: "operator" }
  | { readonly state: "type"; readonly problem: string | null }
  | ({ readonly state: "asks" | "allowed" | "denied" } & Asking);

export function DevicePage(props: { data: DeviceData }): JSX.Element {
  const { data } = props;
  switch (data.state) {
    case "operator":
      return (
        <>
          <h1>Let a program in</h1>
          <p class="lead">
            You are logged in with the operator token, which is nobody's own. Log out, and log in as the user whose
            program it is.
          </p>
        </>
      );
    case "type":
      return (
        <>
          <h1>Let a program in</h1>
          <p class="lead">Type the code that the program shows.</p>
          <form action="/device" class="login">
            <label>
              Code
              <input
                type="text"
                name="user_code"
                required
                autocomplete="off"
                autocapitalize="characters"
                spellcheck={false}
                placeholder="XXXX-XXXX"
                maxLength={20}
              />
            </label>
            {data.problem === null ? null : (
              <p role="alert" class="no">
                {data.problem}
              </p>
            )}
            <button type="submit">Go on</button>
          </form>
        </>
      );
    case "asks":
      return (
        <>
          <h1>Let a program in?</h1>
          <p class="lead">
            It gets a token of yours and may do in your name what you may do. Allow it only if you have just started it
            yourself, and it shows this very code.
          </p>
          <Facts asking={data} />
          <form method="post" action="/device" class="act">
            <input type="hidden" name="user_code" value={data.userCode} />
            <button type="submit" name="answer" value="allow">
              Allow
            </button>
            <button type="submit" name="answer" value="deny" class="danger">
              Refuse
            </button>
          </form>
        </>
      );
    case "allowed":
    case "denied":
      return (
        <>
          <h1>{data.state === "allowed" ? "It is let in" : "It was refused"}</h1>
          <p class="lead">
            {data.state === "allowed" ? (
              <>
                The program goes on within a few seconds. Its token is on <a href="/me">your page</a>, where you can
                revoke it.
              </>
            ) : (
              "The program gets nothing. If you did not start it, somebody may have tried to use your name."
            )}
          </p>
          <Facts asking={data} />
        </>
      );
  }
}

function Facts(props: { asking: Asking }): JSX.Element {
  const { userCode, program, address, askedAt } = props.asking;
  return (
    <dl class="facts">
      <div>
        <dt>code</dt>
        <dd>
          <code class="user-code">{userCode}</code>
        </dd>
      </div>
      <div>
        <dt>program</dt>
        <dd>
          <Name text={program} />
        </dd>
      </div>
      <div>
        <dt>from</dt>
        <dd>
          <Name text={address} />
        </dd>
      </div>
      <div>
        <dt>asked</dt>
        <dd>
          <When at={askedAt} />
        </dd>
      </div>
    </dl>
  );
}
