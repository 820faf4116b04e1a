// A person at a device, who knows the client by what it says and shows.
import { type Browser, type BrowserContext, type BrowserContextOptions, expect, type Locator, type Page } from "@playwright/test";
import { Line, url } from "./platform";

export interface Account { name: string; password: string }

export class Person {
  private constructor(readonly account: Account, readonly context: BrowserContext, readonly page: Page, readonly line: Line) {}

  // Sits down at a device that nobody used before, served by this app host.
  static async at(browser: Browser, appHost: string, account: Account, options: BrowserContextOptions = {}): Promise<Person> {
    const line = await Line.open();
    const context = await browser.newContext({ baseURL: url, locale: "en-US", ...options, proxy: { server: line.address } });
    await context.addCookies([{ name: "sc_app", value: appHost, url, httpOnly: true, secure: true }]);
    const page = await context.newPage();
    page.on("console", (message) => { if (message.type() === "error") console.log(`${account.name} at ${appHost}: ${message.text()}`); });
    return new Person(account, context, page, line);
  }

  async away() {
    await this.context.close();
    this.line.close();
  }

  async signIn() {
    await this.page.goto("/");
    const form = this.page.getByRole("region", { name: "Sign in" });
    await form.getByLabel("User name").fill(this.account.name);
    await form.getByLabel("Password").fill(this.account.password);
    await form.getByRole("button", { name: "Sign in" }).click();
    await expect(this.page.getByRole("button", { name: "Settings" })).toBeVisible();
  }

  // The first device of an account is shown the recovery key, once.
  async keepRecoveryKey(): Promise<string> {
    const dialog = this.dialog("Recovery key");
    const key = await dialog.locator("#recovery-key").innerText();
    await dialog.getByRole("checkbox").check();
    await dialog.getByRole("button", { name: "Done" }).click();
    await expect(dialog).toBeHidden();
    return key;
  }

  async press(name: string) { await this.page.getByRole("button", { name, exact: true }).click(); }

  dialog(name: string | RegExp): Locator { return this.page.getByRole("dialog", { name }); }

  async close() {
    await this.press("Close");
    await expect(this.page.getByRole("dialog")).toBeHidden();
  }

  row(title: string): Locator { return this.page.getByRole("navigation", { name: "Conversations" }).getByRole("link", { name: title }); }

  async open(title: string) {
    await this.row(title).click();
    await this.isAt(title);
  }

  isAt(title: string) { return expect(this.page.getByRole("heading", { name: title, level: 2 })).toBeVisible(); }

  async say(words: string) {
    await this.page.getByLabel("Write a message").fill(words);
    await this.page.getByLabel("Write a message").press("Enter");
  }

  message(words: string): Locator { return this.page.locator("li.message", { hasText: words }).last(); }

  sees(words: string) { return expect(this.message(words)).toBeVisible(); }

  // Everything said in the open conversation, in the order it is shown.
  said(): Promise<string[]> { return this.page.locator("li.message .bubble > p").allInnerTexts(); }

  async choose(words: string, action: string) {
    const message = this.message(words);
    await message.hover();
    await message.getByRole("button", { name: "React, and more" }).click();
    await message.getByRole("group", { name: "React, and more" }).getByRole("button", { name: action }).click();
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
