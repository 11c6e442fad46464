/** The language server of this window: found, started, restarted, and what it says. */

import * as os from "node:os";

import * as vscode from "vscode";
import {
  CloseAction,
  ErrorAction,
  LanguageClient,
  RevealOutputChannelOn,
  type LanguageClientOptions,
  type Middleware,
} from "vscode-languageclient/node";

import { Coalesced } from "./coalesce";
import type { Figures } from "./figures";
import { environment, initializationOptions, suggestsIn } from "./options";
import { probe } from "./probe";
import { resolve, type Candidate, type Surroundings } from "./resolve";
import { complaint, stateOf, type State } from "./state";

const STATUS = "$/tabwise/status";
const RESTARTS = 4;
const WITHIN_MS = 180_000;

/** Settings that are looked at on every request; all others need a restart. */
const LIVE = ["tabwise.enabled", "tabwise.client.package"];

export class Server implements vscode.Disposable {
  found: Candidate | undefined;
  private client: LanguageClient | undefined;
  private readonly restarts = new Coalesced(() => this.restartOnce());
  private crashes: number[] = [];

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly output: vscode.LogOutputChannel,
    private readonly figures: Figures,
    private readonly show: (state: State) => void,
    private readonly onMissing: () => void,
  ) {}

  /** Stop what runs, look for the program again, start it. Calls coalesce. */
  restart(): Promise<void> {
    return this.restarts.run();
  }

  dispose(): void {
    void this.client?.dispose();
  }

  private async restartOnce(): Promise<void> {
    await this.stop();
    this.show({ kind: "starting" });
    const resolution = await resolve(await surroundings(this.context), probe);
    if (resolution.kind !== "found") {
      this.found = undefined;
      this.output.warn(complaint(resolution));
      this.show({ kind: "stopped", reason: complaint(resolution) });
      if (resolution.kind === "missing") this.onMissing();
      return;
    }
    this.found = resolution.candidate;
    const { command, origin } = resolution.candidate;
    this.output.info(`${command} ${resolution.version} (${origin})`);
    await this.start(resolution.candidate);
  }

  private async start(candidate: Candidate): Promise<void> {
    const configuration = vscode.workspace.getConfiguration("tabwise");
    const words = configuration.get<string[]>("client.arguments") ?? ["lsp"];
    const executable = {
      command: candidate.command,
      args: [...candidate.before, ...words],
      options: { env: environment(process.env, explicit) as Record<string, string> },
    };
    const client = new LanguageClient("tabwise", "Tabwise", executable, this.options());
    client.onNotification(STATUS, (said) => this.show(stateOf(said)));
    this.client = client;
    try {
      await client.start();
    } catch (error) {
      const reason = `The server did not start: ${String(error)}. See the log.`;
      this.output.error(reason);
      this.show({ kind: "stopped", reason });
    }
  }

  private async stop(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    if (client?.isRunning()) await client.dispose();
  }

  private options(): LanguageClientOptions {
    return {
      documentSelector: documentSelector(),
      initializationOptions: serverOptions(),
      outputChannel: this.output,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      initializationFailedHandler: () => false,
      middleware: this.middleware(),
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => ({ action: this.afterCrash(), handled: true }),
      },
    };
  }

  private middleware(): Middleware {
    return {
      workspace: {
        // VS Code would send every default, and so override tabwise.toml.
        configuration: (params) => params.items.map(() => serverOptions()),
        // A changed setting restarts the server.
        didChangeConfiguration: () => Promise.resolve(),
      },
      // The ghost text is all that VS Code needs; the popup stays as it was.
      provideCompletionItem: () => null,
      provideInlineCompletionItems: async (
        document,
        position,
        context,
        token,
        next,
      ) => {
        if (!isActive(document)) return null;
        const began = performance.now();
        const answer = await next(document, position, context, token);
        if (token.isCancellationRequested) return null;
        const items = Array.isArray(answer) ? answer : (answer?.items ?? []);
        this.figures.observe(performance.now() - began, items.length);
        return answer;
      },
    };
  }

  private afterCrash(): CloseAction {
    const now = Date.now();
    this.crashes = [...this.crashes.filter((at) => now - at < WITHIN_MS), now];
    if (this.crashes.length <= RESTARTS) {
      this.show({ kind: "starting" });
      return CloseAction.Restart;
    }
    const reason = `The server ended ${this.crashes.length} times in a row. See the log, then restart it.`;
    this.show({ kind: "stopped", reason });
    return CloseAction.DoNotRestart;
  }
}

/** Whether suggestions are wanted in a document. */
export function isActive(document: vscode.TextDocument): boolean {
  const configuration = vscode.workspace.getConfiguration("tabwise", document);
  const languages =
    configuration.get<Record<string, boolean>>("client.languages") ?? {};
  return (
    configuration.get("enabled") === true && suggestsIn(languages, document.languageId)
  );
}

/** Whether a change of settings is one that the running server cannot follow. */
export function needsRestart(event: vscode.ConfigurationChangeEvent): boolean {
  if (!event.affectsConfiguration("tabwise")) return false;
  const contributed = Object.keys(
    vscode.extensions.getExtension("tabwise.tabwise")?.packageJSON.contributes
      .configuration.properties ?? {},
  );
  return contributed.some(
    (name) => !LIVE.includes(name) && event.affectsConfiguration(name),
  );
}

function serverOptions(): Record<string, unknown> {
  return { ...initializationOptions(explicit), trusted: vscode.workspace.isTrusted };
}

/** A setting's value where the user gave one; in an untrusted workspace, VS Code
 * leaves out what that workspace says of restricted settings. */
function explicit(name: string): unknown {
  const configuration = vscode.workspace.getConfiguration("tabwise");
  const seen = configuration.inspect(name);
  const given = seen?.globalValue ?? seen?.workspaceValue ?? seen?.workspaceFolderValue;
  return given === undefined ? undefined : configuration.get(name);
}

function documentSelector(): { scheme: string; language: string }[] {
  const languages = vscode.workspace
    .getConfiguration("tabwise")
    .get<Record<string, boolean>>("client.languages");
  const known = Object.keys(languages ?? {});
  return known.flatMap((language) =>
    ["file", "untitled", "vscode-notebook-cell"].map((scheme) => ({
      scheme,
      language,
    })),
  );
}

async function surroundings(context: vscode.ExtensionContext): Promise<Surroundings> {
  const folder = vscode.workspace.workspaceFolders?.[0];
  const trusted = vscode.workspace.isTrusted;
  const setting = vscode.workspace
    .getConfiguration("tabwise")
    .get<string | null>("client.path");
  return {
    setting: setting ? setting : null,
    interpreter: trusted ? await interpreter(folder?.uri) : undefined,
    workspace: trusted ? folder?.uri.fsPath : undefined,
    storage: context.globalStorageUri.fsPath,
    home: os.homedir(),
    platform: process.platform,
  };
}

interface PythonApi {
  environments?: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { path: string };
  };
}

/** The workspace's Python as the Python extension knows it, where that is installed. */
async function interpreter(
  folder: vscode.Uri | undefined,
): Promise<string | undefined> {
  const python = vscode.extensions.getExtension<PythonApi>("ms-python.python");
  if (python === undefined) return undefined;
  const api = await python.activate();
  return api.environments?.getActiveEnvironmentPath(folder).path;
}
