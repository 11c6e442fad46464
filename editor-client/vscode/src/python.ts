/** A Python that can run the server. */

import type { Ask } from "./resolve";

const NAMES = [
  "python3.14",
  "python3.13",
  "python3.12",
  "python3.11",
  "python3",
  "python",
];
const NEW_ENOUGH = "import sys; print(sys.version_info >= (3, 11))";

/** The command of a Python that is new enough; undefined without one on the PATH. */
export async function findPython(ask: Ask): Promise<string | undefined> {
  for (const name of NAMES) {
    if ((await ask([name, "-c", NEW_ENOUGH])) === "True") return name;
  }
  return undefined;
}
