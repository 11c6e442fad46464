-- Tabwise in Neovim 0.7 to 0.11, as an item of the completion popup: put this file into
-- the `lua` folder of your configuration, and `require("tabwise-popup")` into init.lua.
-- <C-x><C-o> opens the popup; completion plugins that ask language servers need no more
-- than this. From 0.12 on: tabwise.lua, which shows ghost text.
local config = { name = "tabwise", cmd = { "tabwise", "lsp" }, root_dir = vim.fn.getcwd() }
local client

vim.api.nvim_create_autocmd("FileType", {
  pattern = "python",
  callback = function()
    if vim.lsp.start then
      vim.lsp.start(config)
    else -- 0.7
      client = client or vim.lsp.start_client(config)
      vim.lsp.buf_attach_client(0, client)
    end
    vim.bo.omnifunc = "v:lua.vim.lsp.omnifunc"
  end,
})
