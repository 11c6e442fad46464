-- Tabwise in Neovim 0.12 or newer, as ghost text: put this into init.lua.
-- Tab takes the suggestion where there is one, and is a tab elsewhere.
vim.lsp.config("tabwise", {
  cmd = { "tabwise", "lsp" },
  filetypes = { "python" },
  root_markers = { "pyproject.toml", ".git" },
})
vim.lsp.enable("tabwise")
vim.lsp.inline_completion.enable()

vim.keymap.set("i", "<Tab>", function()
  if not vim.lsp.inline_completion.get() then
    return "<Tab>"
  end
end, { expr = true, desc = "Accept the suggestion" })
