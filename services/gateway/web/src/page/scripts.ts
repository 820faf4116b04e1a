// The page's policy names this one place where a script may be loaded by its URL (Trusted Types).
const policy = (window as any).trustedTypes?.createPolicy("core", { createScriptURL: (url: string) => url });

export const worker = (url: string, name: string) => new Worker(policy ? policy.createScriptURL(url) : url, { type: "module", name });
