/** The menu of the status bar: what it says, and the command behind each line. */

export interface Entry {
  readonly label: string;
  readonly command: string;
  readonly description: string;
}

/** What the menu depends on. on: whether suggestions are wanted, for each scope;
 * undefined for the workspace where none is open, which has no settings. */
export interface Circumstances {
  readonly state: string;
  readonly figures: string;
  readonly model: string;
  readonly language: string;
  readonly missing: boolean;
  readonly on: {
    everywhere: boolean;
    workspace: boolean | undefined;
    language: boolean;
  };
}

export function entries(now: Circumstances): Entry[] {
  const entry = (label: string, command: string, description = ""): Entry => ({
    label,
    command: `tabwise.${command}`,
    description,
  });
  const say = (on: boolean, where: string): string =>
    on ? `$(circle-slash) Stop suggesting ${where}` : `$(sparkle) Suggest ${where}`;
  const { workspace } = now.on;
  const inWorkspace =
    workspace === undefined
      ? []
      : [entry(say(workspace, "in this workspace"), "toggleWorkspace")];
  const install = entry("$(cloud-download) Install the server", "install");
  return [
    entry("$(info) State", "showLog", now.state),
    ...(now.missing ? [install] : []),
    entry(say(now.on.everywhere, "everywhere"), "toggle"),
    ...inWorkspace,
    entry(say(now.on.language, `in ${now.language}`), "toggleLanguage"),
    entry("$(package) Model and backend…", "chooseModel", now.model),
    entry("$(refresh) Restart the language server", "restart"),
    entry("$(graph) Statistics", "showStatistics", now.figures),
    entry("$(output) Log", "showLog"),
    entry("$(checklist) Check the installation", "doctor"),
    entry("$(settings-gear) Settings", "openSettings"),
  ];
}
