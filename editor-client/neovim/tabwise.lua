-- Tabwise in Neovim 0.12 or newer, as ghost text: put this file into the `lua` folder of
-- your configuration, and `require("tabwise")` into its init.lua. For older versions:
-- tabwise-popup.lua.
--
-- Tab takes the suggestion, and is a tab where none is shown. `:Tabwise` tells how the
-- backend is; `:Tabwise off` and `:Tabwise on` switch. 'statusline' may hold
-- %{get(g:,'tabwise','')}: ready, starting, slow or offline.
local reason

vim.lsp.config("tabwise", {
  cmd = { "tabwise", "lsp" },
  filetypes = { "python" },
  root_markers = { "pyproject.toml", ".git" },
  settings = { tabwise = { level = "balanced" } }, -- all: docs/language-server.md
  handlers = {
    ["$/tabwise/status"] = function(_, said)
      vim.g.tabwise = said.state
      reason = said.reason ~= vim.NIL and said.reason or nil
      vim.cmd.redrawstatus({ bang = true })
    end,
  },
})
vim.lsp.enable("tabwise")
vim.lsp.inline_completion.enable()

-- What was typed since the suggestion came is part of it, and not to be inserted again.
local function rest_of(item)
  if not item.range then
    return item
  end
  local cursor = vim.api.nvim_win_get_cursor(0)
  local line = vim.api.nvim_get_current_line()
  local typed = line:sub(item.range.start_col + 1, cursor[2])
  local moved = item.range.start_row ~= cursor[1] - 1
  if moved or not vim.startswith(item.insert_text, typed) then
    return nil
  end
  item.insert_text = item.insert_text:sub(#typed + 1)
  item.range = nil
  return item
end

vim.keymap.set("i", "<Tab>", function()
  return vim.lsp.inline_completion.get({ on_accept = rest_of }) and "" or "<Tab>"
end, { expr = true, desc = "Take the suggestion" })

vim.api.nvim_create_user_command("Tabwise", function(command)
  if command.args ~= "" then
    vim.lsp.inline_completion.enable(command.args == "on")
  end
  local on = vim.lsp.inline_completion.is_enabled() and "on" or "off"
  local backend = table.concat({ vim.g.tabwise or "not started", reason }, ": ")
  vim.notify(("Tabwise is %s, its backend %s"):format(on, backend))
end, {
  nargs = "?",
  complete = function()
    return { "on", "off" }
  end,
  desc = "Tell how Tabwise is, or switch it",
})
