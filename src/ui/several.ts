/** Whether the farm has several repositories, so that lists of builds name each build's own. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";

export const SeveralContext: ReturnType<typeof createContext<boolean>> = createContext<boolean>(true);

/** Also where only one is configured any more but `all` are of others. */
export function useRepository(all: readonly { readonly repo: string }[]): boolean {
  return useContext(SeveralContext) || new Set(all.map(({ repo }) => repo)).size > 1;
}
