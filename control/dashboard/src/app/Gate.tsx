import { useState } from "react";
import { Api, ApiError } from "../api/client";
import { rememberToken } from "../api/token";
import { Button } from "../ui/Button";
import { Icon } from "../ui/Icon";

/** Asks for the token, once a tab, and lets in who has one that the server knows. */
export function Gate({ refused, onEnter }: { refused: boolean; onEnter: (token: string) => void }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(refused ? "The token is not accepted any more." : undefined);
  const [asking, setAsking] = useState(false);
  const enter = async () => {
    const given = token.trim();
    if (!given) return setProblem("Paste a token first.");
    setAsking(true);
    try {
      await new Api(given).runs();
      rememberToken(given);
      onEnter(given);
    } catch (error) {
      setProblem(error instanceof ApiError ? error.message : String(error));
      setAsking(false);
    }
    return undefined;
  };
  return (
    <main className="gate">
      <form
        className="card gate-card"
        onSubmit={(event) => {
          event.preventDefault();
          void enter();
        }}
      >
        <span className="gate-mark">
          <Icon name="flame" size={34} />
        </span>
        <h1>Stovetop</h1>
        <p className="muted">The operator's seat of a training that goes on while its users do.</p>
        <div className="field">
          <label htmlFor="token">Token</label>
          <input
            id="token"
            className="input mono"
            type="password"
            autoComplete="off"
            // biome-ignore lint/a11y/noAutofocus: the page has one field and nothing before it
            autoFocus
            value={token}
            aria-invalid={problem ? true : undefined}
            aria-describedby="token-note"
            onChange={(event) => setToken(event.target.value)}
          />
          <span id="token-note" className={problem ? "problem" : "hint"} role={problem ? "alert" : undefined}>
            {problem ?? (
              <>
                <code>stovetop up</code> prints one; <code>stovetop token</code> makes others. It is kept in
                this tab only.
              </>
            )}
          </span>
        </div>
        <Button type="submit" kind="primary" unavailable={asking ? "Asking the server." : undefined}>
          Enter
        </Button>
      </form>
    </main>
  );
}
