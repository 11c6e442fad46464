/** Tabwise in VS Code: the status bar, its menu, the commands. */

import * as vscode from "vscode";

import { Figures } from "./figures";
import { installServer } from "./install";
import { entries } from "./menu";
import { chooseModel, describeModel } from "./model";
import { effectOf } from "./options";
import { isActive, Server } from "./server";
import { face, type Face, type State } from "./state";
import { runTask } from "./task";
import { switchedOn, toggle, toggleLanguage, toggleWorkspace } from "./toggles";

const OFFERED = "installOffered";
const WELCOMED = "walkthroughShown";
const WALKTHROUGH = "tabwise.tabwise#start";

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  await new Extension(context).start();
}

class Extension {
  private readonly figures = new Figures();
  private readonly output = vscode.window.createOutputChannel("Tabwise", { log: true });
  private readonly item = vscode.window.createStatusBarItem(
    "tabwise.status",
    vscode.StatusBarAlignment.Right,
  );
  private state: State = { kind: "starting" };
  private readonly server: Server;

  constructor(private readonly context: vscode.ExtensionContext) {
    this.server = new Server(
      context,
      this.output,
      this.figures,
      (state) => this.show(state),
      () => void this.offerInstall(),
    );
    this.item.name = "Tabwise";
    this.item.command = "tabwise.menu";
  }

  async start(): Promise<void> {
    for (const [name, run] of Object.entries(this.commands())) {
      this.own(vscode.commands.registerCommand(`tabwise.${name}`, run));
    }
    this.own(this.output, this.item, this.server);
    this.own(
      vscode.workspace.onDidChangeConfiguration((event) => this.follow(event)),
      vscode.workspace.onDidGrantWorkspaceTrust(() => void this.server.restart()),
      vscode.window.onDidChangeActiveTextEditor(() => this.draw()),
    );
    this.item.show();
    void this.welcome();
    await this.server.restart();
  }

  private commands(): Record<string, () => unknown> {
    const run = (command: string, ...words: unknown[]) =>
      vscode.commands.executeCommand(command, ...words);
    return {
      menu: () => this.menu(),
      restart: () => this.server.restart(),
      toggle: () => toggle(),
      toggleWorkspace: () => toggleWorkspace(),
      toggleLanguage: () => toggleLanguage(currentLanguage()),
      chooseModel: () => chooseModel(),
      openSettings: () => run("workbench.action.openSettings", "tabwise"),
      trigger: () => run("editor.action.inlineSuggest.trigger"),
      showLog: () => this.output.show(),
      showStatistics: () => this.report("Statistics", "stats"),
      doctor: () => this.report("Check the installation", "doctor"),
      install: () => this.install(),
    };
  }

  private own(...things: vscode.Disposable[]): void {
    this.context.subscriptions.push(...things);
  }

  private show(state: State): void {
    this.state = state;
    this.draw();
  }

  /** Make changed settings hold. */
  private follow(event: vscode.ConfigurationChangeEvent): void {
    this.draw();
    const names = this.settings().filter((name) => event.affectsConfiguration(name));
    const effect = effectOf(names.map((name) => name.replace("tabwise.", "")));
    if (effect === "options") this.server.tellOptions();
    if (effect === "server") void this.server.restart();
    if (effect === "backend") void this.server.restartBackend();
  }

  private settings(): string[] {
    const { packageJSON } = this.context.extension;
    return Object.keys(packageJSON.contributes.configuration.properties);
  }

  /** What the status bar says now: of the document, or else of the server. */
  private get face(): Face {
    const document = vscode.window.activeTextEditor?.document;
    const off = document !== undefined && !isActive(document);
    return face(off ? { kind: "disabled" } : this.state, this.figures.describe());
  }

  private draw(): void {
    const { text, tooltip, warning, active } = this.face;
    this.item.text = text;
    this.item.tooltip = tooltip;
    this.item.accessibilityInformation = { label: tooltip };
    this.item.backgroundColor = warning
      ? new vscode.ThemeColor("statusBarItem.warningBackground")
      : undefined;
    void vscode.commands.executeCommand("setContext", "tabwise.active", active);
  }

  private async menu(): Promise<void> {
    const language = currentLanguage();
    const lines = entries({
      state: this.face.tooltip,
      figures: this.figures.describe(),
      model: describeModel(),
      language,
      missing: this.server.found === undefined,
      on: switchedOn(language),
    });
    const chosen = await vscode.window.showQuickPick(lines, { title: "Tabwise" });
    if (chosen !== undefined) await vscode.commands.executeCommand(chosen.command);
  }

  /** A subcommand in a terminal, as the user would run it; without a server, the menu
   * says what is missing. */
  private async report(name: string, subcommand: string): Promise<void> {
    const words = this.server.words(subcommand);
    if (words === undefined) return this.menu();
    await runTask(name, ...words);
  }

  private async install(): Promise<void> {
    if (await installServer(this.context.globalStorageUri.fsPath)) {
      await this.server.restart();
    }
  }

  /** At the first start of all: how to begin. */
  private async welcome(): Promise<void> {
    if (!(await this.isFirst(WELCOMED))) return;
    const open = "workbench.action.openWalkthrough";
    await vscode.commands.executeCommand(open, WALKTHROUGH, false);
  }

  /** Once for all: later, the status bar alone says that there is no server. */
  private async offerInstall(): Promise<void> {
    if (!(await this.isFirst(OFFERED))) return;
    const [install, locate] = ["Install", "I have it: say where"];
    const said = "Tabwise's server was not found on this machine.";
    const answer = await vscode.window.showInformationMessage(said, install, locate);
    if (answer === install) await this.install();
    if (answer === locate) {
      const name = "tabwise.client.path";
      await vscode.commands.executeCommand("workbench.action.openSettings", name);
    }
  }

  private async isFirst(what: string): Promise<boolean> {
    const before = this.context.globalState.get(what) === true;
    await this.context.globalState.update(what, true);
    return !before;
  }
}

function currentLanguage(): string {
  return vscode.window.activeTextEditor?.document.languageId ?? "python";
}
