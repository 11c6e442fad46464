" Tabwise in Vim 9 or Neovim with llama.vim, as ghost text: source this from your vimrc,
" and run `tabwise serve`. Tab takes the suggestion, Shift-Tab its first line.
" llama.vim asks the HTTP API, so it shows what the model says as it is.
let g:llama_config = {
      \ 'endpoint_fim': 'http://127.0.0.1:8000/infill',
      \ 'n_predict': 32,
      \ 'ring_n_chunks': 4,
      \ 'show_info': 0,
      \ }
