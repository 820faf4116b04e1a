// A person at a device, who knows the client by what it says and shows.
import { type Browser, type BrowserContext, type BrowserContextOptions, expect, type Locator, type Page, type WebSocket, type Worker } from "@playwright/test";
import { prepare } from "./call";
import { Line, url } from "./platform";

export interface Account { name: string; password: string }

export class Person {
  recoveryKey = "";
  readonly sockets = new Set<WebSocket>(); // that are open now

  private constructor(readonly account: Account, readonly context: BrowserContext, readonly page: Page, readonly line: Line) {
    page.on("console", (message) => { if (message.type() === "error") console.log(`${account.name}: ${message.text()}`); });
    page.on("websocket", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
    let core: Worker | null = null; // a page has it first, and in calls others beside it
    page.on("worker", (worker) => {
      core ??= worker;
      worker.on("close", () => {
        if (worker !== core) return;
        core = null;
        this.sockets.clear(); // they end with who has them, unsaid
      });
    });
  }

  // Sits down at a device that nobody used before, served by this app host.
  static async at(browser: Browser, appHost: string, account: Account, options: BrowserContextOptions = {}): Promise<Person> {
    const line = await Line.open();
    const context = await browser.newContext({ baseURL: url, locale: "en-US", ...options, proxy: { server: line.address } });
    await prepare(context);
    await context.addCookies([{ name: "sc_app", value: appHost, url, httpOnly: true, secure: true }]);
    return new Person(account, context, await context.newPage(), line);
  }

  // Opens the client a second time in the same browser.
  async tab(): Promise<Person> {
    const tab = new Person(this.account, this.context, await this.context.newPage(), this.line);
    await tab.page.goto("/");
    await expect(tab.page.getByRole("button", { name: "Settings" })).toBeVisible();
    return tab;
  }

  async away() {
    await this.context.close();
    this.line.close();
  }

  async signIn() {
    await this.page.goto("/");
    await this.enter();
  }

  async enter() {
    const form = this.page.getByRole("region", { name: "Sign in" });
    await form.getByLabel("User name").fill(this.account.name);
    await form.getByLabel("Password").fill(this.account.password);
    await form.getByRole("button", { name: "Sign in" }).click();
    await expect(this.page.getByRole("button", { name: "Settings" })).toBeVisible();
  }

  // The first device of an account is shown the recovery key, once.
  async keepRecoveryKey() {
    const dialog = this.dialog("Recovery key");
    this.recoveryKey = await dialog.locator("#recovery-key").innerText();
    await dialog.getByRole("checkbox").check();
    await dialog.getByRole("button", { name: "Done" }).click();
    await expect(dialog).toBeHidden();
  }

  async press(name: string | RegExp) { await this.page.getByRole("button", { name, exact: true }).click(); }

  dialog(name: string | RegExp): Locator { return this.page.getByRole("dialog", { name }); }

  async close() {
    await this.press("Close");
    await expect(this.page.getByRole("dialog")).toBeHidden();
  }

  // This device as others know it.
  device(): Promise<{ user: string; id: string }> {
    return this.page.evaluate(async () => {
      const names = (await indexedDB.databases()).map(({ name }) => /^secureconnect-([0-9a-f-]{36})-([^:]+)$/.exec(name!));
      const [, user, id] = names.find(Boolean)!;
      return { user: `@${user!}:secureconnect`, id: id! };
    });
  }

  row(title: string): Locator {
    const rows = this.page.getByRole("navigation", { name: "Conversations" }).getByRole("link");
    return rows.filter({ has: this.page.getByText(title, { exact: true }) });
  }

  async open(title: string) {
    await this.row(title).click();
    await this.isAt(title);
  }

  async startGroup(name: string, others: string[]) {
    await this.press("New group");
    await this.page.getByLabel("Name of the group").fill(name);
    for (const other of others) await this.dialog("New group").getByRole("checkbox", { name: other }).check();
    await this.press("Create group");
    await this.isAt(name);
  }

  async isServedBy(host: string) {
    await this.press("Settings");
    await expect(this.dialog("Settings")).toContainText(host);
    await this.close();
  }

  isAt(title: string) { return expect(this.page.getByRole("heading", { name: title, level: 2 })).toBeVisible(); }

  async say(words: string) {
    await this.page.getByLabel("Write a message").fill(words);
    await this.page.getByLabel("Write a message").press("Enter");
  }

  message(words: string): Locator { return this.page.locator("li.message", { hasText: words }).last(); }

  async idOf(words: string): Promise<string> { return (await this.message(words).getAttribute("id"))!.slice("m-".length); }

  sees(words: string) { return expect(this.message(words)).toBeVisible(); }

  shows(words: string, mark: string) { return expect(this.message(words).getByRole("img", { name: mark })).toBeVisible(); }

  // Everything said in the open conversation, in the order it is shown.
  async said(): Promise<string[]> { return (await this.page.locator("li.message .bubble > p").allInnerTexts()).map((words) => words.trim()); }

  async choose(what: string | Locator, action: string) {
    const message = typeof what === "string" ? this.message(what) : what;
    await message.hover();
    await message.getByRole("button", { name: "React, and more" }).click();
    await message.getByRole("group", { name: "React, and more" }).getByRole("button", { name: action }).click();
  }

  // Edits a message so fast that the page draws nothing between the choice and the first word.
  async rewrite(what: string, words: string) {
    const message = this.message(what), field = this.page.getByLabel("Write a message");
    await message.hover();
    await message.getByRole("button", { name: "React, and more" }).click();
    await message.getByRole("button", { name: "Edit" }).evaluate(async (edit: HTMLButtonElement, next) => {
      edit.click();
      await new Promise((done) => { setTimeout(done); });
      const typed = document.querySelector<HTMLTextAreaElement>("#composer")!;
      typed.value = next;
      typed.dispatchEvent(new InputEvent("input", { bubbles: true }));
    }, words);
    await field.press("Enter");
  }
}

// Both compare what their pages show, and say that it is the same.
export async function compare(asking: Person, asked: Person) {
  await asked.press("Begin");
  const [mine, yours] = [asking.page.locator("#emoji"), asked.page.locator("#emoji")];
  await expect(mine.locator("li")).toHaveCount(7);
  await expect(yours).toHaveText(await mine.innerText(), { useInnerText: true });
  for (const person of [asking, asked]) await person.press("They are the same");
  for (const person of [asking, asked]) await person.press("Done");
}
