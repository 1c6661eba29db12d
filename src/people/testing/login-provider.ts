/**
 * A small OpenID Connect provider: discovery, keys, authorization code with PKCE, id tokens with real signatures. Every
 * visitor is `user`, without being asked. `forge` changes what an id token says, or what signs it.
 */
import { createHash, createSign, generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

interface Code {
  readonly clientId: string;
  readonly redirectUri: string;
  readonly challenge: string;
  readonly nonce: string;
}

export class LoginProvider implements AsyncDisposable {
  readonly issuer: string;
  clientId = "farm";
  user: Record<string, unknown> = { sub: "1", email: "alice@example.org", email_verified: true };
  forge: (claims: Record<string, unknown>) => Record<string, unknown> = (claims) => claims;
  /** Whether the provider has a page for logging out. */
  logsOut = false;
  /** Whether tokens are signed with a key that is not published. */
  foreignKey = false;
  readonly #server: ReturnType<typeof createServer>;
  readonly #secret: string;
  readonly #codes = new Map<string, Code>();
  readonly #own = generateKeyPairSync("rsa", { modulusLength: 2048 });
  readonly #foreign = generateKeyPairSync("rsa", { modulusLength: 2048 });

  private constructor(server: ReturnType<typeof createServer>, secret: string) {
    this.#server = server;
    this.#secret = secret;
    this.issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on("request", (request, response) => void this.#answer(request, response));
  }

  static async open(secret: string): Promise<LoginProvider> {
    const server = createServer();
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return new LoginProvider(server, secret);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((closed) => this.#server.close(closed));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.issuer);
    const json = (status: number, value: object) => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(value));
    };
    switch (url.pathname) {
      case "/.well-known/openid-configuration":
        return json(200, {
          issuer: this.issuer,
          authorization_endpoint: `${this.issuer}/authorize`,
          token_endpoint: `${this.issuer}/token`,
          jwks_uri: `${this.issuer}/keys`,
          response_types_supported: ["code"],
          subject_types_supported: ["public"],
          id_token_signing_alg_values_supported: ["RS256"],
          token_endpoint_auth_methods_supported: ["client_secret_basic"],
          ...(this.logsOut && { end_session_endpoint: `${this.issuer}/logout` }),
        });
      case "/keys": {
        const jwk = this.#own.publicKey.export({ format: "jwk" });
        return json(200, { keys: [{ ...jwk, kid: "1", use: "sig", alg: "RS256" }] });
      }
      case "/authorize": {
        const asked = (name: string) => url.searchParams.get(name) ?? "";
        if (asked("code_challenge_method") !== "S256" || !asked("scope").split(" ").includes("openid"))
          return json(400, { error: "invalid_request" });
        const code = randomBytes(16).toString("hex");
        this.#codes.set(code, {
          clientId: asked("client_id"),
          redirectUri: asked("redirect_uri"),
          challenge: asked("code_challenge"),
          nonce: asked("nonce"),
        });
        response.writeHead(302, {
          location: `${asked("redirect_uri")}?${new URLSearchParams({ code, state: asked("state") })}`,
        });
        return void response.end();
      }
      case "/token": {
        const form = new URLSearchParams(await text(request));
        const code = this.#codes.get(form.get("code") ?? "");
        this.#codes.delete(form.get("code") ?? "");
        const [, basic = ""] = /^Basic (\S+)$/.exec(request.headers.authorization ?? "") ?? [];
        const pair = Buffer.from(basic, "base64").toString("utf8").split(":").map(decodeURIComponent);
        const challenge = createHash("sha256")
          .update(form.get("code_verifier") ?? "")
          .digest("base64url");
        if (pair[0] !== this.clientId || pair[1] !== this.#secret) return json(401, { error: "invalid_client" });
        if (code?.challenge !== challenge || code.redirectUri !== form.get("redirect_uri"))
          return json(400, { error: "invalid_grant" });
        return json(200, { access_token: "x", token_type: "Bearer", expires_in: 60, id_token: this.#idToken(code) });
      }
      default:
        return json(404, {});
    }
  }

  #idToken(code: Code): string {
    const now = Math.floor(Date.now() / 1000);
    const claims = this.forge({
      iss: this.issuer,
      aud: code.clientId,
      iat: now,
      exp: now + 300,
      nonce: code.nonce,
      ...this.user,
    });
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const signed = `${part({ alg: "RS256", kid: "1", typ: "JWT" })}.${part(claims)}`;
    const { privateKey } = this.foreignKey ? this.#foreign : this.#own;
    return `${signed}.${createSign("sha256").update(signed).sign(privateKey).toString("base64url")}`;
  }
}
