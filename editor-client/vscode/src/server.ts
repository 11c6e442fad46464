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
import { relay } from "./log";
import { environment, serverOptions, suggestsIn, type Given } from "./options";
import { output } from "./program";
import { resolve, type Candidate, type Surroundings } from "./resolve";
import { complaint, stateOf, type State } from "./state";

const STATUS = "$/tabwise/status";
const CHANGED = "workspace/didChangeConfiguration";
const RESTARTS = 4;
const WITHIN_MS = 180_000;

export class Server implements vscode.Disposable {
  found: Candidate | undefined;
  private client: LanguageClient | undefined;
  private readonly restarts = new Coalesced(() => this.restartOnce());
  private crashes: number[] = [];
  private endsBackend = false;

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

  /** Have the server ask for its options again. */
  tellOptions(): void {
    if (!this.client?.isRunning()) return;
    void this.client.sendNotification(CHANGED, { settings: null });
  }

  /** As `restart`, with the backend of all editors ended between: it starts with what
   * the settings say of it now. */
  restartBackend(): Promise<void> {
    this.endsBackend = true;
    return this.restart();
  }

  /** The words that run a subcommand of what was found, and their environment. */
  words(subcommand: string): [string[], Record<string, string>] | undefined {
    if (this.found === undefined) return undefined;
    const { command, before } = this.found;
    const variables = environment(process.env, given()) as Record<string, string>;
    return [[command, ...before, subcommand], variables];
  }

  dispose(): void {
    void this.client?.dispose();
  }

  private async restartOnce(): Promise<void> {
    await this.stop();
    this.show({ kind: "starting" });
    await this.endBackendIfAsked();
    const resolution = await resolve(await this.surroundings(), output);
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

  private async endBackendIfAsked(): Promise<void> {
    const stop = this.words("stop");
    if (this.endsBackend && stop !== undefined) await output(...stop);
    this.endsBackend = false;
  }

  private async surroundings(): Promise<Surroundings> {
    const folder = vscode.workspace.workspaceFolders?.[0];
    const trusted = vscode.workspace.isTrusted;
    const setting = vscode.workspace
      .getConfiguration("tabwise")
      .get<string | null>("client.path");
    return {
      setting: setting ? setting : null,
      interpreter: trusted ? await this.interpreter(folder?.uri) : undefined,
      workspace: trusted ? folder?.uri.fsPath : undefined,
      storage: this.context.globalStorageUri.fsPath,
      home: os.homedir(),
      environment: process.env,
      platform: process.platform,
    };
  }

  /** The workspace's Python as the Python extension knows it, where that is there. */
  private async interpreter(
    folder: vscode.Uri | undefined,
  ): Promise<string | undefined> {
    try {
      const python = vscode.extensions.getExtension<PythonApi>("ms-python.python");
      const api = await python?.activate();
      return api?.environments?.getActiveEnvironmentPath(folder).path;
    } catch (error) {
      this.output.warn(`The Python extension does not answer: ${String(error)}`);
      return undefined;
    }
  }

  private async start(candidate: Candidate): Promise<void> {
    const configuration = vscode.workspace.getConfiguration("tabwise");
    const words = configuration.get<string[]>("client.arguments") ?? ["lsp"];
    const executable = {
      command: candidate.command,
      args: [...candidate.before, ...words],
      options: { env: environment(process.env, given()) as Record<string, string> },
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
    if (!client?.isRunning()) return;
    try {
      await client.dispose();
    } catch (error) {
      // it hangs; another is started all the same
      this.output.warn(`The server did not stop: ${String(error)}`);
    }
  }

  private options(): LanguageClientOptions {
    return {
      documentSelector: documentSelector(),
      initializationOptions: options(),
      outputChannel: this.output,
      stdioOptions: {
        stdout: () => {}, // the protocol's own
        stderr: (stderr) => relay(stderr, this.output),
      },
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
        configuration: ({ items }) =>
          items.map(({ scopeUri }) =>
            options(scopeUri === undefined ? undefined : vscode.Uri.parse(scopeUri)),
          ),
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

/** The options for the server, of a folder or of the whole window. */
function options(scope?: vscode.Uri): Record<string, unknown> {
  return { ...serverOptions(given(scope)), trusted: vscode.workspace.isTrusted };
}

/** Settings where the user gave them; in an untrusted workspace, VS Code leaves out what
 * that workspace says of restricted ones. */
function given(scope?: vscode.Uri): Given {
  const configuration = vscode.workspace.getConfiguration("tabwise", scope);
  return (name) => {
    const seen = configuration.inspect(name);
    const value =
      seen?.workspaceFolderValue ?? seen?.workspaceValue ?? seen?.globalValue;
    return value === undefined ? undefined : configuration.get(name);
  };
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

interface PythonApi {
  environments?: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { path: string };
  };
}
