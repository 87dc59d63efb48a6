// First, so that the styles of each component come after and win.
import "./ui/tokens.css";
import "./ui/base.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { adoptTokenFromAddress } from "./api/token";
import { App } from "./app/App";
import "./app/shell.css";

adoptTokenFromAddress();

const root = document.getElementById("root");
if (!root) throw new Error("index.html has no #root to put the page into");
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
