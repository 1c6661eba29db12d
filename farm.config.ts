/** The farm of `npm start`: this checkout, built on this computer. */
import { defineFarm, platformName, script } from "barnraiser";

const here = platformName(process.platform, process.arch);

export default defineFarm({
  repos: [{ name: "barnraiser", url: ".", depth: 1 }],
  hosts: [
    { hostType: `host-${here}-local`, pool: "local", expect: 1, notes: "The computer that the coordinator runs on." },
  ],
  builders: [
    {
      name: here,
      host: `host-${here}-local`,
      steps: script("npm ci", "npm run check", "npm run test:unit"),
      timeLimit: "20m",
    },
  ],
});
