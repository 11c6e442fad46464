/** Tabwise in VS Code: the status bar, its menu, the commands. */

import * as vscode from "vscode";

import { Figures } from "./figures";
import { installServer } from "./install";
import { isActive, needsRestart, Server } from "./server";
import { face, type State } from "./state";

const OFFERED = "installOffered";

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
    const commands: Record<string, () => unknown> = {
      menu: () => this.menu(),
      restart: () => this.server.restart(),
      toggle: () => toggle(),
      toggleLanguage: () => toggleLanguage(),
      trigger: () =>
        vscode.commands.executeCommand("editor.action.inlineSuggest.trigger"),
      showLog: () => this.output.show(),
      showStatistics: () =>
        vscode.window.showInformationMessage(this.figures.describe()),
      doctor: () => this.doctor(),
      install: () => this.install(),
    };
    for (const [name, run] of Object.entries(commands)) {
      this.own(vscode.commands.registerCommand(`tabwise.${name}`, run));
    }
    this.own(this.output, this.item, this.server);
    this.own(
      vscode.workspace.onDidChangeConfiguration((event) => {
        this.draw();
        if (needsRestart(event)) void this.server.restart();
      }),
      vscode.workspace.onDidGrantWorkspaceTrust(() => void this.server.restart()),
      vscode.window.onDidChangeActiveTextEditor(() => this.draw()),
    );
    this.item.show();
    await this.server.restart();
  }

  private own(...things: vscode.Disposable[]): void {
    this.context.subscriptions.push(...things);
  }

  private show(state: State): void {
    this.state = state;
    this.draw();
  }

  private draw(): void {
    const document = vscode.window.activeTextEditor?.document;
    const off = document !== undefined && !isActive(document);
    const shown: State = off ? { kind: "disabled" } : this.state;
    const { text, tooltip, warning } = face(shown, this.figures.describe());
    this.item.text = text;
    this.item.tooltip = tooltip;
    this.item.accessibilityInformation = { label: tooltip };
    this.item.backgroundColor = warning
      ? new vscode.ThemeColor("statusBarItem.warningBackground")
      : undefined;
    const active = !off && ["ready", "slow"].includes(this.state.kind);
    void vscode.commands.executeCommand("setContext", "tabwise.active", active);
  }

  private async menu(): Promise<void> {
    const document = vscode.window.activeTextEditor?.document;
    const language = document?.languageId ?? "python";
    const { tooltip } = face(this.state, this.figures.describe());
    const entry = (label: string, command: string, description = "") => ({
      label,
      command,
      description,
    });
    const entries = [
      entry("$(info) State", "tabwise.showLog", tooltip),
      entry("$(circle-slash) Suggestions on or off, everywhere", "tabwise.toggle"),
      entry(`$(code) Suggestions on or off in ${language}`, "tabwise.toggleLanguage"),
      entry("$(package) Model and backend…", "tabwise.openSettings", model()),
      entry("$(refresh) Restart the language server", "tabwise.restart"),
      entry("$(output) Log", "tabwise.showLog"),
      entry("$(graph) Statistics", "tabwise.showStatistics", this.figures.describe()),
      entry("$(checklist) Check the installation", "tabwise.doctor"),
    ];
    if (this.state.kind === "stopped") {
      entries.splice(
        1,
        0,
        entry("$(cloud-download) Install the server", "tabwise.install"),
      );
    }
    const chosen = await vscode.window.showQuickPick(entries, { title: "Tabwise" });
    if (chosen?.command === "tabwise.openSettings") {
      await vscode.commands.executeCommand("workbench.action.openSettings", "tabwise");
    } else if (chosen !== undefined) {
      await vscode.commands.executeCommand(chosen.command);
    }
  }

  /** `tabwise doctor` in a terminal, as the user would run it. */
  private doctor(): void {
    const program = this.server.found;
    if (program === undefined) {
      void this.menu();
      return;
    }
    const terminal = vscode.window.createTerminal({
      name: "Tabwise",
      shellPath: program.command,
      shellArgs: [...program.before, "doctor"],
    });
    terminal.show();
  }

  private async install(): Promise<void> {
    if (await installServer(this.context.globalStorageUri.fsPath)) {
      await this.server.restart();
    }
  }

  /** Once for all: later, the status bar alone says that there is no server. */
  private async offerInstall(): Promise<void> {
    if (this.context.globalState.get(OFFERED) === true) return;
    await this.context.globalState.update(OFFERED, true);
    const [install, locate] = ["Install", "I have it: say where"];
    const said = "Tabwise's server was not found on this machine.";
    const answer = await vscode.window.showInformationMessage(said, install, locate);
    if (answer === install) await this.install();
    if (answer === locate) {
      const name = "tabwise.client.path";
      await vscode.commands.executeCommand("workbench.action.openSettings", name);
    }
  }
}

function model(): string {
  const configuration = vscode.workspace.getConfiguration("tabwise");
  const url = configuration.get<string | null>("backend.url");
  const name =
    configuration.get<string | null>("client.model") ?? "the model that ships";
  return url ? `at ${url}` : `${name}, on this machine`;
}

async function toggle(): Promise<void> {
  const configuration = vscode.workspace.getConfiguration("tabwise");
  const now = configuration.get<boolean>("enabled") === true;
  await configuration.update("enabled", !now, vscode.ConfigurationTarget.Global);
}

async function toggleLanguage(): Promise<void> {
  const language = vscode.window.activeTextEditor?.document.languageId;
  if (language === undefined) return;
  const configuration = vscode.workspace.getConfiguration("tabwise");
  const now = configuration.get<Record<string, boolean>>("client.languages") ?? {};
  const languages = { ...now, [language]: now[language] !== true };
  await configuration.update(
    "client.languages",
    languages,
    vscode.ConfigurationTarget.Global,
  );
}
