" Tabwise in Vim 8.2 or newer with ALE: source this from your vimrc. The popup opens
" while you type; the suggestion is its item marked Tabwise. ALE cuts what it inserts
" at the first "(": vim-lsp (tabwise.vim) does not.
let g:ale_completion_enabled = 1
set completeopt=menu,menuone,noselect,noinsert

augroup tabwise
  autocmd!
  autocmd VimEnter * call ale#linter#Define('python', {
        \ 'name': 'tabwise',
        \ 'lsp': 'stdio',
        \ 'executable': 'tabwise',
        \ 'command': '%e lsp',
        \ 'project_root': {buffer -> getcwd()},
        \ })
augroup END
