/** The flags that `coordinator` and `npm start` have in common. */
import { type Flag, text } from "../farm/flags.ts";

export const addressFlags: {
  readonly data: Flag<string>;
  readonly secrets: Flag<string>;
  readonly listen: Flag<string>;
  readonly http: Flag<string>;
} = {
  data: text(".farm", "data `folder`: database, mirrors, certificates, operator token"),
  secrets: text(
    "",
    "`folder` with what all coordinators of a farm share: master key, operator token, CA (default: -data)",
  ),
  listen: text("localhost:8119", "`address` of the TLS port for machines and browsers; port 0 takes a free one"),
  http: text(
    "localhost:8118",
    "`address` of the plain HTTP port for browsers on this computer; port 0 takes a free one",
  ),
};
