/** Whether the farm has several repositories, so that lists of builds name each build's own. */
import { createContext } from "preact";
import { useContext } from "preact/hooks";

export const SeveralContext: ReturnType<typeof createContext<boolean>> = createContext<boolean>(true);

/**
 * Whether to name repositories: several are configured, or builds among `all` are of one that is no longer configured.
 */
export function useRepository(all: readonly { readonly repo: string }[]): boolean {
  return useContext(SeveralContext) || new Set(all.map(({ repo }) => repo)).size > 1;
}
