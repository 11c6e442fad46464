-- Tabwise in Neovim with minuet-ai.nvim, through the HTTP API: `tabwise serve` runs,
-- minuet-ai.nvim and plenary.nvim are installed; take this into your init.lua.
-- tabwise.lua needs neither, and asks sooner.
require("minuet").setup({
  provider = "openai_fim_compatible",
  n_completions = 1,
  context_window = 12000, -- characters
  virtualtext = { auto_trigger_ft = { "python" }, keymap = { accept = "<Tab>" } },
  provider_options = {
    openai_fim_compatible = {
      name = "Tabwise",
      end_point = "http://127.0.0.1:8000/v1/completions",
      model = "default",
      api_key = function()
        return "none" -- the server's key, if it has one
      end,
      stream = true,
      optional = { max_tokens = 48, temperature = 0, stop = { "\n\n" } },
    },
  },
})
